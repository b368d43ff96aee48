# The C library for browsers and node, by Emscripten: facetalk.js and facetalk.wasm (`make wasm`). One thread, 128-bit SIMD,
# files in memory: a page writes a model's files there, then calls facetalk_model_load(). examples/wasm/ has a program.
include(cmake/exports.cmake)
facetalk_exports(exported "_")
list(JOIN exported "," exported)

target_compile_options(core PRIVATE -msimd128 -fwasm-exceptions)
add_executable(facetalk ${runtime_sources} $<TARGET_OBJECTS:core>)
target_include_directories(facetalk PRIVATE csrc)
target_compile_options(facetalk PRIVATE -Wall -Wextra -msimd128 -fwasm-exceptions)
target_compile_definitions(facetalk PRIVATE "FACETALK_VERSION=\"${FACETALK_VERSION}\"")
target_link_options(facetalk PRIVATE -O3 -fwasm-exceptions --no-entry
  -sMODULARIZE=1 -sEXPORT_NAME=facetalk -sENVIRONMENT=web,worker,node -sALLOW_MEMORY_GROWTH=1 -sFORCE_FILESYSTEM=1 -sWASM_BIGINT=1
  "-sEXPORTED_FUNCTIONS=_malloc,_free,${exported}"
  -sEXPORTED_RUNTIME_METHODS=FS,UTF8ToString,stringToUTF8,lengthBytesUTF8,setValue,getValue,HEAPF32,HEAP32)
