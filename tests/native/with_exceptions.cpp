// The other file of without_exceptions.cpp: what is thrown where exceptions are on.
#include <facetalk.hpp>

int status_thrown(const char* folder) {
  try {
    const facetalk::Model model{folder};
  } catch (const facetalk::Error& error) {
    return error.what()[0] != '\0' ? error.status : -1;
  }
  return 0;
}
