/* SPDX-License-Identifier: MIT
 *
 * Preloaded into a Python: makes one chosen call of one chosen call site in rloop fail.
 *
 * A call is rloop's if, going up the stack from it, a frame of the extension comes before one that evaluates a Python function
 * (which all do below evaluate(), PEP 523) or one of _asyncio: what libpython, libuv and libc do in between, they do for the
 * extension; what a Python function or a task's step does that the extension has called is not its own.
 *
 * A call site is the return address in the extension and a hash of the frames below it, so that the several allocations of one
 * PyObject_Call count as several.
 *
 * check.py says by inject_begin() which call is to fail, and how, and reads the records of what passed.  Nothing is looked at
 * before.
 */

#define _GNU_SOURCE
#include "inject.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <unwind.h>

#define MAX_RECORDS (1 << 18)

struct record {
    uintptr_t site; /* a return address in the extension */
    uint64_t path;  /* a hash of the frames below it, and of the function */
    uint32_t function;
    uint32_t padding;
};

struct range {
    uintptr_t begin, end;
};

static struct {
    atomic_bool is_on;
    struct range ours;
    struct range asyncio;
    uint64_t wanted; /* a path; 0: only record */
    atomic_long countdown;
    int fault;
    atomic_uint has_failed;
    atomic_uint n_records;
    struct record records[MAX_RECORDS];
} state;

/* The unwinder and the wrappers call what is wrapped. */
static _Thread_local bool is_busy;

struct walk {
    uintptr_t site;
    uint64_t path;
};

static bool
range_has(struct range range, uintptr_t address)
{
    return address >= range.begin && address < range.end;
}

typedef void *evaluator(void *thread, void *frame, int throwing);

static evaluator *evaluate_really;

static void *
evaluate(void *thread, void *frame, int throwing)
{
    void *result = evaluate_really(thread, frame, throwing);
    atomic_signal_fence(memory_order_seq_cst); /* no tail call: the unwinder looks for this function */
    return result;
}

static _Unwind_Reason_Code
walk_frame(struct _Unwind_Context *context, void *data)
{
    struct walk *walk = data;
    uintptr_t at = _Unwind_GetIP(context);

    if (range_has(state.asyncio, at) || _Unwind_GetRegionStart(context) == (uintptr_t)evaluate) {
        return _URC_END_OF_STACK;
    }
    walk->path = (walk->path ^ at) * UINT64_C(0x100000001b3);
    if (range_has(state.ours, at)) {
        walk->site = at;
        return _URC_END_OF_STACK;
    }
    return _URC_NO_REASON;
}

int
inject_fault(enum inject_function function)
{
    struct walk walk = {.path = UINT64_C(0xcbf29ce484222325) + function};
    int error = errno;

    if (!atomic_load_explicit(&state.is_on, memory_order_relaxed) || is_busy) {
        return INJECT_NOTHING;
    }
    is_busy = true;
    _Unwind_Backtrace(walk_frame, &walk);
    is_busy = false;
    errno = error;
    if (walk.site == 0) {
        return INJECT_NOTHING;
    }
    unsigned number = atomic_fetch_add(&state.n_records, 1);
    if (number < MAX_RECORDS) {
        state.records[number] = (struct record){.site = walk.site, .path = walk.path, .function = function};
    }
    if (walk.path != state.wanted || atomic_fetch_sub(&state.countdown, 1) != 0) {
        return INJECT_NOTHING;
    }
    atomic_store(&state.has_failed, 1);
    return state.fault;
}

void
inject_withdraw(void)
{
    atomic_store(&state.has_failed, 0);
}

#define INJECT_NAME(name) #name,
static const char *const names[] = {INJECT_FUNCTIONS(INJECT_NAME) NULL};
#undef INJECT_NAME

void *
inject_real(enum inject_function function)
{
    static void *_Atomic real[sizeof names / sizeof names[0]];
    if (real[function] == NULL) {
        is_busy = true;
        real[function] = dlsym(RTLD_NEXT, names[function]);
        is_busy = false;
    }
    return real[function];
}

/* --- For check.py, by ctypes */

/* Where the extension and _asyncio lie. */
EXPORT void
inject_setup(struct range ours, struct range asyncio)
{
    void *(*get_interpreter)(void) = dlsym(RTLD_DEFAULT, "PyInterpreterState_Get");
    void (*set_evaluator)(void *, evaluator *) = dlsym(RTLD_DEFAULT, "_PyInterpreterState_SetEvalFrameFunc");

    state.ours = ours;
    state.asyncio = asyncio;
    evaluate_really = dlsym(RTLD_DEFAULT, "_PyEval_EvalFrameDefault");
    set_evaluator(get_interpreter(), evaluate);
}

EXPORT const char *const *
inject_names(void)
{
    return names;
}

/* Record from now on; and let the call on `path` (0: none) fail when it comes for the time `hit`, from 0. */
EXPORT void
inject_begin(uint64_t path, long hit, int fault)
{
    state.wanted = path;
    state.countdown = hit;
    state.fault = fault;
    state.has_failed = 0;
    state.n_records = 0;
    state.is_on = true;
}

/* Stop looking, or go on. */
EXPORT void
inject_watch(bool is_on)
{
    state.is_on = is_on;
}

EXPORT int
inject_has_failed(void)
{
    return (int)state.has_failed;
}

EXPORT const struct record *
inject_records(unsigned *n_records)
{
    *n_records = state.n_records < MAX_RECORDS ? state.n_records : MAX_RECORDS;
    return state.records;
}

/* libuv knows no answer to some faults: that is told apart from crashes of our own by this exit status. */
enum { EXIT_LIBUV_FAILED = 66 };

void
inject_exit_if_libuv(void *caller)
{
    Dl_info info;

    if (dladdr(caller, &info) != 0 && strstr(info.dli_fname, "libuv") != NULL) {
        _exit(EXIT_LIBUV_FAILED);
    }
}

EXPORT void
abort(void)
{
    inject_exit_if_libuv(__builtin_return_address(0));
    signal(SIGABRT, SIG_DFL);
    raise(SIGABRT);
    _exit(127);
}
