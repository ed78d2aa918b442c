/* SPDX-License-Identifier: MIT
 *
 * Memory lent to a method of an SSLObject; see tls.h.  tls_read.c lends what is to be filled, tls_write.c what is sent.
 *
 * The method may be the user's, and may keep the memoryview that it gets, or a slice of it.  Releasing ours would not
 * end a slice, so the views stand on an object, and that has the memory as long as any of them is alive.
 */
#include "tls.h"

struct tls_loan {
    PyObject_HEAD
    Py_buffer memory; /* its `obj` is NULL while tls_loan_end() is still to come for a bytes object */
    Py_ssize_t start; /* what the next view begins with */
};

static PyObject *
loan_new(const struct tls_protocol *tls, PyObject *object, int flags)
{
    PyTypeObject *type = tls->state->TLSLoan_type;
    struct tls_loan *loan = (struct tls_loan *)type->tp_alloc(type, 0);
    if (loan == NULL) {
        return NULL;
    }
    if (object != NULL && PyObject_GetBuffer(object, &loan->memory, flags) < 0) {
        Py_CLEAR(loan);
    }
    return (PyObject *)loan;
}

PyObject *
tls_loan_of_object(const struct tls_protocol *tls, PyObject *object, int flags)
{
    return loan_new(tls, object, flags);
}

PyObject *
tls_loan_of_bytes(const struct tls_protocol *tls, PyObject *bytes)
{
    PyObject *loan = loan_new(tls, NULL, 0);
    if (loan != NULL) {
        PyBuffer_FillInfo(&((struct tls_loan *)loan)->memory, NULL, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes),
                          0, PyBUF_SIMPLE);
    }
    return loan;
}

PyObject *
tls_loan_view(PyObject *loan, Py_ssize_t start)
{
    ((struct tls_loan *)loan)->start = start;
    return PyMemoryView_FromObject(loan);
}

const Py_buffer *
tls_loan_memory(PyObject *loan)
{
    return &((struct tls_loan *)loan)->memory;
}

bool
tls_loan_end(PyObject *loan, PyObject *bytes)
{
    bool is_kept = Py_REFCNT(loan) > 1; /* every view has a reference */
    if (is_kept) {
        ((struct tls_loan *)loan)->memory.obj = Py_NewRef(bytes);
    }
    Py_DECREF(loan);
    return is_kept;
}

/* --- the type */

static int
loan_get_buffer(PyObject *self, Py_buffer *view, int flags)
{
    const struct tls_loan *loan = (struct tls_loan *)self;
    const Py_buffer *memory = &loan->memory;
    return PyBuffer_FillInfo(view, self, (char *)memory->buf + loan->start, memory->len - loan->start, memory->readonly,
                             flags);
}

static int
loan_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((struct tls_loan *)self)->memory.obj);
    return 0;
}

static void
loan_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    PyBuffer_Release(&((struct tls_loan *)self)->memory);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot loan_slots[] = {
    {Py_tp_traverse, loan_traverse},
    {Py_tp_dealloc, loan_dealloc},
    {Py_bf_getbuffer, loan_get_buffer},
    {0, NULL},
};

static PyType_Spec loan_spec = {
    .name = "rloop._rloop.TLSLoan",
    .basicsize = sizeof(struct tls_loan),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = loan_slots,
};

int
tls_loan_setup_types(PyObject *module, module_state *state)
{
    state->TLSLoan_type = module_add_type(module, &loan_spec, NULL);
    return state->TLSLoan_type == NULL ? -1 : 0;
}
