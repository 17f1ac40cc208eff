#!/usr/bin/env bash
# Builds perpcore_batch.so and perpcore_message.so for a checkout of the referee.
#
#     bench/referee/build.sh REFEREE [OUT]      OUT defaults to REFEREE
#
# PYTHON names the interpreter with Perpcore's dependencies; default: this environment's python3.
set -euo pipefail

if [ $# -lt 1 ] || [ ! -f "$1/api/matching_engine_api.h" ]; then
    echo "usage: bench/referee/build.sh REFEREE [OUT]" >&2
    echo "REFEREE is a checkout of flash1-dev/matching-engine-benchmark (api/matching_engine_api.h)" >&2
    exit 2
fi
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd -- "$here/../.." && pwd)"
referee="$(cd -- "$1" && pwd)"
out="$(cd -- "${2:-$1}" && pwd)"
python="${PYTHON:-python3}"

variable() { "$python" -c "import sysconfig; print(sysconfig.get_config_var('$1') or '')"; }

headers="$(variable INCLUDEPY)"
if [ ! -f "$headers/Python.h" ]; then
    echo "$headers/Python.h is missing: install the headers of $python (Debian: python3-dev)" >&2
    exit 1
fi
libraries="$(variable LIBDIR)"
name="$(variable INSTSONAME)"
path="$root:$("$python" -c "import sys; print(':'.join(p for p in sys.path if p))")"

for kind in batch message; do
    flags=()
    [ "$kind" = batch ] && flags=(-DBATCH)
    g++ -std=c++20 -O3 -march=native -fPIC -shared -Wall "${flags[@]}" \
        -DPYTHON_PATH="\"$path\"" -DLIBPYTHON="\"$name\"" \
        -I"$referee/api" -I"$headers" "$here/adapter.cpp" -o "$out/perpcore_$kind.so" \
        -L"$libraries" -l:"$name" -Wl,-rpath,"$libraries" -ldl
    echo "built $out/perpcore_$kind.so"
done
