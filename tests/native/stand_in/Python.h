/* SPDX-License-Identifier: MIT
 *
 * Python.h - what csrc/inbox.c and csrc/ready_queue.c use of it, for inbox_tests: a stand-in without an interpreter.
 *
 * References are counted atomically and there is no GIL, so that threads meet in the inbox as they do in a free-threaded
 * build, and ThreadSanitizer sees all that the files do.  Memory fails when a test says so; the exception is a thread's own.
 */
#ifndef RLOOP_TESTS_STAND_IN_PYTHON_H
#define RLOOP_TESTS_STAND_IN_PYTHON_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

typedef ssize_t Py_ssize_t;
typedef struct stand_in_object {
    atomic_int references;
} PyObject;
typedef struct stand_in_type PyTypeObject;
typedef struct stand_in_spec PyType_Spec;
typedef struct stand_in_method PyMethodDef;
struct PyModuleDef;
typedef int (*visitproc)(PyObject *object, void *arg);

extern _Thread_local const char *stand_in_exception; /* the name of its type; NULL when none is set */
extern atomic_bool stand_in_is_out_of_memory;

#define PyExc_RuntimeError "RuntimeError"

static inline void
PyErr_SetString(const char *type, const char *message)
{
    (void)message;
    stand_in_exception = type;
}

static inline PyObject *
PyErr_NoMemory(void)
{
    stand_in_exception = "MemoryError";
    return NULL;
}

static inline void
Py_INCREF(PyObject *object)
{
    atomic_fetch_add(&object->references, 1);
}

static inline void
Py_DECREF(PyObject *object)
{
    if (atomic_fetch_sub(&object->references, 1) <= 0) {
        abort();
    }
}

#define Py_VISIT(object) \
    do { \
        int status_ = visit((object), arg); \
        if (status_ != 0) { \
            return status_; \
        } \
    } while (0)

#define PyMem_New(type, count) (stand_in_is_out_of_memory ? NULL : (type *)calloc((count), sizeof(type)))
#define PyMem_Free free

#endif
