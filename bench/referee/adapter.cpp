/* Perpcore behind the C ABI of the public matching-engine referee.
 *
 * The interpreter starts once, in engine_init, compiles the kernels of bench/referee/engine.py (or
 * loads them from its cache) and hands over their addresses. From then on every call goes straight
 * into machine code: no interpreter, no lock, no allocation.
 *
 * Reports travel through a ring of our own (engine_get_transport): the kernels write me_report_t
 * into it and publish every 64 of them, and at every flush; the referee's drainer copies them out.
 *
 * Without -DBATCH the batch entry is left out, and the referee sends one message at a time.
 */
#include <Python.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "matching_engine_api.h"

namespace {

constexpr int WRITTEN = 0, READ = 16, MASK = 32, NEXT = 33, STATE_CELLS = 64;  // engine.py

struct Ring {
    int64_t* state;
    me_report_t* slots;
    uint64_t size;
};

Ring* ring;

void (*on_batch)(const void*, int64_t, const void*);
void (*on_new)(const void*, const void*);
void (*on_cancel)(const void*, const void*);
void (*on_modify)(const void*, const void*);
int64_t (*best)(int64_t, const void*);
int64_t (*depth)(int64_t, int64_t, const void*);
const void* tables;  // addresses of everything the kernels touch

void* pages(size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("perpcore: mmap");
        exit(1);
    }
    madvise(memory, bytes, MADV_HUGEPAGE);
    memset(memory, 0, bytes);
    return memory;
}

void* ring_create(uint32_t capacity) {
    Ring* r = new Ring;
    r->size = 1;
    while (r->size < capacity) r->size <<= 1;
    r->slots = static_cast<me_report_t*>(pages(r->size * sizeof(me_report_t)));
    r->state = static_cast<int64_t*>(pages(STATE_CELLS * sizeof(int64_t)));
    r->state[MASK] = r->size - 1;
    return r;
}

int ring_push(void*, const me_report_t*) {
    return 0;  // the kernels write into the ring themselves
}

uint32_t ring_drain(void* handle, me_report_t* out, uint32_t max) {
    Ring* r = static_cast<Ring*>(handle);
    int64_t read = r->state[READ];
    int64_t count = __atomic_load_n(&r->state[WRITTEN], __ATOMIC_ACQUIRE) - read;
    if (count <= 0) return 0;
    if (count > max) count = max;
    uint64_t first = read & r->state[MASK];
    uint64_t straight = r->size - first;
    if (straight > static_cast<uint64_t>(count)) straight = count;
    memcpy(out, r->slots + first, straight * sizeof(me_report_t));
    memcpy(out + straight, r->slots, (count - straight) * sizeof(me_report_t));
    __atomic_store_n(&r->state[READ], read + count, __ATOMIC_RELEASE);
    return count;
}

void ring_flush(void* handle) {
    Ring* r = static_cast<Ring*>(handle);
    __atomic_store_n(&r->state[WRITTEN], r->state[NEXT], __ATOMIC_RELEASE);
}

void ring_destroy(void* handle) {
    Ring* r = static_cast<Ring*>(handle);
    munmap(r->slots, r->size * sizeof(me_report_t));
    munmap(r->state, STATE_CELLS * sizeof(int64_t));
    delete r;
}

const me_transport_t transport = {ring_create, ring_push, ring_drain, ring_flush, ring_destroy};

void fail(const char* what) {
    fprintf(stderr, "perpcore: %s\n", what);
    if (PyErr_Occurred()) PyErr_Print();
    exit(1);
}

}  // namespace

extern "C" {

const me_transport_t* engine_get_transport(void) { return &transport; }

void engine_init(uint64_t, const me_transport_t*, void* sink) {
    ring = static_cast<Ring*>(sink);
    // Extension modules look for the interpreter's symbols globally, and we were loaded locally.
    dlopen(LIBPYTHON, RTLD_NOW | RTLD_GLOBAL);
    if (!Py_IsInitialized()) Py_InitializeEx(0);
    PyRun_SimpleString("import sys; sys.path[:0] = '" PYTHON_PATH "'.split(':')");
    PyObject* module = PyImport_ImportModule("bench.referee.engine");
    if (!module) fail("cannot import bench.referee.engine");
    PyObject* found = PyObject_CallMethod(
        module, "prepare", "LLL", (long long)(intptr_t)ring->slots,
        (long long)(intptr_t)ring->state, (long long)ring->size);
    if (!found) fail("bench.referee.engine.prepare failed");
    if (PyTuple_Size(found) != 7) fail("engine.py and adapter.cpp do not fit each other");
    auto at = [&](int k) { return (void*)(intptr_t)PyLong_AsLongLong(PyTuple_GetItem(found, k)); };
    on_batch = (decltype(on_batch))at(0);
    on_new = (decltype(on_new))at(1);
    on_cancel = (decltype(on_cancel))at(2);
    on_modify = (decltype(on_modify))at(3);
    best = (decltype(best))at(4);
    depth = (decltype(depth))at(5);
    tables = at(6);
}

void engine_shutdown(void) {}

void engine_on_new_order(const new_order_t* order) { on_new(order, tables); }
void engine_on_cancel(const cancel_t* cancel) { on_cancel(cancel, tables); }
void engine_on_modify(const modify_t* modify) { on_modify(modify, tables); }

#ifdef BATCH
void engine_on_batch(const me_msg_t* messages, uint32_t count) { on_batch(messages, count, tables); }
#endif

void engine_flush(void) { ring_flush(ring); }

int64_t engine_query_best_bid(void) { return best(0, tables); }
int64_t engine_query_best_ask(void) { return best(1, tables); }
uint64_t engine_query_depth_at(int64_t price, uint8_t side) {
    return depth(price, side, tables);
}

}  // extern "C"
