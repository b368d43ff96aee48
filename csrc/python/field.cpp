#include "python/bindings.h"

namespace facetalk::python {

void bind_field(pybind11::module_&) {}

}  // namespace facetalk::python
