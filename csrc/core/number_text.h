// Numbers in messages, as people write them.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <type_traits>

namespace facetalk {

// The shortest of six digits or more that is this number again: "0.1", "60", "1e+06", "nan"; std::to_string has six
// decimals of every number, and of a small one nothing but zeros. With a point, whatever the program's locale writes.
template <typename Real>
std::string number_text(Real value) {
  static_assert(std::is_floating_point_v<Real>);
  if (value != value) return "nan";  // and not "-nan", which some processors make of 0 / 0
  char text[40];
  for (int digits = 6; digits <= std::numeric_limits<Real>::max_digits10; ++digits) {
    std::snprintf(text, sizeof text, "%.*g", digits, static_cast<double>(value));
    if (static_cast<Real>(std::strtod(text, nullptr)) == value) break;
  }
  std::string out(text);
  if (const size_t comma = out.find(','); comma != std::string::npos) out[comma] = '.';
  return out;
}

}  // namespace facetalk
