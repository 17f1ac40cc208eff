#!/usr/bin/env bash
# Installs the bundle that this script lies in. Needs python3 of the bundle's version, and no network.
#
#   ./install.sh                   release, units, user, folders; compiles the kernels
#   ./install.sh --only-release    the release alone, beside the one that runs: then perpcore upgrade
#
#   --prefix DIR     where releases lie, instead of /opt/perpcore
#   --no-compile     leave the kernels to the first start, which then takes minutes
#
# PYTHON names another interpreter than python3.
set -euo pipefail
cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")"

fail() {
    printf 'install.sh: %s\n' "$@" >&2
    exit 1
}

prefix=/opt/perpcore only_release=0 compile=1
while (($#)); do
    case $1 in
        --prefix)
            (($# > 1)) || fail "--prefix wants a folder"
            prefix=$(realpath -m -- "$2")
            shift
            ;;
        --only-release) only_release=1 ;;
        --no-compile) compile=0 ;;
        -h | --help)
            sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
            exit
            ;;
        *) fail "what is $1? ./install.sh --help" ;;
    esac
    shift
done

version=$(<VERSION) wanted=$(<PLATFORM)
sha256sum --check --quiet --strict SHA256SUMS || fail "the bundle is damaged: copy it again"
python=$(command -v -- "${PYTHON:-python3}") || fail "no ${PYTHON:-python3} here: apt-get install python3"
found=$("$python" -c 'import platform, sys
print(f"cp{sys.version_info[0]}{sys.version_info[1]}-{sys.platform}-{platform.machine()}")')
[[ $found == "$wanted" ]] \
    || fail "this bundle is for $wanted, $python is $found; PYTHON names another interpreter"

release=$prefix/releases/$version
if [[ -e $release/.complete ]]; then
    echo "$release: is installed already"
else
    rm -rf -- "$release" # of an installation that was broken off
    mkdir -p -- "$prefix/releases"
    "$python" -m venv --without-pip -- "$release"
    wheels=()
    for wheel in wheels/*.whl; do
        [[ $wheel == wheels/pip-* ]] || wheels+=("$wheel")
    done
    pip_wheel=(wheels/pip-*.whl) # runs as it is: neither venv nor host need to have pip
    pip=("$release/bin/python" "${pip_wheel[0]}/pip" --disable-pip-version-check --quiet --no-cache-dir)
    "${pip[@]}" install --no-index --no-deps "${wheels[@]}"
    "${pip[@]}" check
    "$release/bin/perpcore" --version
    touch -- "$release/.complete"
fi

if ((!only_release)); then
    "$release/bin/perpcore" install --prefix "$prefix"
    [[ -e $prefix/current ]] || ln -sfn -- "$release" "$prefix/current"
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers perpcore.conf
        systemd-tmpfiles --create perpcore.conf
    else
        echo "no systemd-sysusers here: make the user and group perpcore, and the folders of" \
            "/usr/lib/tmpfiles.d/perpcore.conf"
    fi
    [[ ! -d /run/systemd/system ]] || systemctl daemon-reload
fi

if ((compile)) && getent passwd perpcore >/dev/null && ((EUID == 0)); then
    setpriv --reuid=perpcore --regid=perpcore --clear-groups \
        env HOME=/var/lib/perpcore PERPCORE_CACHE=/var/cache/perpcore "$release/bin/perpcore" compile
fi

if ((only_release)); then
    echo "next: $prefix/current/bin/perpcore upgrade $release"
else
    echo "next: $prefix/current/bin/perpcore doctor; then systemctl enable --now perpcore.target"
fi
