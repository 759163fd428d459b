// UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sottovoce {

// The code point at text[at], and at moves past it; -1 where there is none, and at moves past one byte.
std::int32_t next_code_point(std::string_view text, std::size_t& at);

bool is_utf8(std::string_view text);

// Appends a code point that is not a surrogate.
void append_utf8(std::string& text, std::uint32_t code_point);

}  // namespace sottovoce
