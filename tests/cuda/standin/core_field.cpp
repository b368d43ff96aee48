// The field's kernels and bindings for core.cpp; the module that field_entry.cpp makes besides is not used.
#include "../field_entry.cpp"
