// What the library throws for a file, an option or an input that it cannot use: one line for the user.
#pragma once

#include <stdexcept>
#include <string>

namespace sottovoce {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The value in quotes on one short line, whatever is in it.
inline std::string quoted(const std::string& value) {
  constexpr std::size_t kMost = 80;
  std::string out = "'";
  for (const char c : value.substr(0, kMost)) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return out + (value.size() > kMost ? "...'" : "'");
}

}  // namespace sottovoce
