/* SPDX-License-Identifier: MIT
 *
 * The module rloop._rloop: its state and slots.  No logic; each room adds its own types.
 */
#include "module.h"

#include "handle.h"

static int
state_import(PyObject **slot, const char *module_name, const char *attribute)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL) {
        return -1;
    }
    *slot = PyObject_GetAttrString(module, attribute);
    Py_DECREF(module);
    return *slot == NULL ? -1 : 0;
}

static int
module_exec(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
#define X(name) \
    if ((state->str_##name = PyUnicode_InternFromString(#name)) == NULL) { \
        return -1; \
    }
    MODULE_STRINGS(X)
#undef X
#define X(name, module_name, attribute) \
    if (state_import(&state->name, module_name, attribute) < 0) { \
        return -1; \
    }
    MODULE_IMPORTS(X)
#undef X
    if ((state->no_args = PyTuple_New(0)) == NULL ||
        (state->kwnames_loop = Py_BuildValue("(O)", state->str_loop)) == NULL ||
        (state->kwnames_loop_name_context = Py_BuildValue("(OOO)", state->str_loop, state->str_name,
                                                          state->str_context)) == NULL)
    {
        return -1;
    }
    if (context_snapshot_setup(state) < 0 || stream_reader_setup(state) < 0 || handle_setup_types(module, state) < 0 ||
        stream_transport_setup_types(module, state) < 0 || pipe_transport_setup_types(module, state) < 0 ||
        datagram_transport_setup_types(module, state) < 0 || server_setup_types(module, state) < 0 ||
        sock_ops_setup_types(module, state) < 0 || tls_setup_types(module, state) < 0 ||
        loop_setup_types(module, state) < 0)
    {
        return -1;
    }
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);
#define X(name) Py_VISIT(state->name##_type);
    MODULE_TYPES(X)
#undef X
#define X(name, module_name, attribute) Py_VISIT(state->name);
    MODULE_IMPORTS(X)
#undef X
    return 0;
}

static int
module_clear(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    handle_close_pools(state);
    sock_ops_clear_pool(state);
#define X(name) Py_CLEAR(state->name##_type);
    MODULE_TYPES(X)
#undef X
#define X(name) Py_CLEAR(state->str_##name);
    MODULE_STRINGS(X)
#undef X
#define X(name, module_name, attribute) Py_CLEAR(state->name);
    MODULE_IMPORTS(X)
#undef X
    Py_CLEAR(state->no_args);
    Py_CLEAR(state->raw_socket_fileno);
    Py_CLEAR(state->feed_data);
    Py_CLEAR(state->stream_data_received);
    Py_CLEAR(state->kwnames_loop);
    Py_CLEAR(state->kwnames_loop_name_context);
    Py_CLEAR(state->kwnames_context);
    Py_CLEAR(state->kwnames_debug);
    Py_CLEAR(state->tls_do_handshake);
    Py_CLEAR(state->tls_wrapped);
    Py_CLEAR(state->tls_flushing);
    Py_CLEAR(state->tls_shutdown);
    Py_CLEAR(state->tls_again_errors);
    Py_CLEAR(state->ssl_object_type);
    Py_CLEAR(state->ssl_object_read);
    return 0;
}

static void
module_free(void *module)
{
    module_clear((PyObject *)module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

struct PyModuleDef rloop_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "rloop._rloop",
    .m_doc = "The C half of rloop: the loop's base type, its handles and its transports.",
    .m_size = sizeof(module_state),
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__rloop(void)
{
    return PyModuleDef_Init(&rloop_module_def);
}

module_state *
module_state_of_type(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &rloop_module_def);
    return module == NULL ? NULL : PyModule_GetState(module);
}

PyTypeObject *
module_add_type(PyObject *module, PyType_Spec *spec, PyObject *bases)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, bases);
    if (type == NULL) {
        return NULL;
    }
    if (PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        Py_DECREF(type);
        return NULL;
    }
    return (PyTypeObject *)type;
}

int
module_add_methods(PyTypeObject *type, PyMethodDef *methods)
{
    for (PyMethodDef *method = methods; method->ml_name != NULL; method++) {
        PyObject *descriptor = PyDescr_NewMethod(type, method);
        if (descriptor == NULL) {
            return -1;
        }
        int result = PyObject_SetAttrString((PyObject *)type, method->ml_name, descriptor);
        Py_DECREF(descriptor);
        if (result < 0) {
            return -1;
        }
    }
    return 0;
}

Py_ssize_t
module_type_data_offset(PyTypeObject *type)
{
    /* PEP 697 lays our part out behind the base's; the distance is the same for every instance.  A debug build looks at this
     * one's type, and at nothing else of it. */
    PyObject probe;
    Py_SET_TYPE(&probe, type);
    return (char *)PyObject_GetTypeData(&probe, type) - (char *)&probe;
}
