// JSON from files that nobody vouches for: strict grammar, UTF-8, no key twice, a limit on depth.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "error.hpp"

namespace sottovoce {

struct JsonMember;

struct Json {
  using List = std::vector<Json>;
  using Object = std::vector<JsonMember>;  // sorted by name

  // Integers that int64 cannot hold are kept as numbers with a fraction are.
  std::variant<std::nullptr_t, bool, std::int64_t, double, std::string, List, Object> value = nullptr;

  template <class T>
  const T* as() const {
    return std::get_if<T>(&value);
  }

  // The member of that name; null where there is none, or where this is no object.
  const Json* find(std::string_view name) const;

  bool is_number() const { return as<std::int64_t>() || as<double>(); }
  double number() const { return as<double>() ? *as<double>() : static_cast<double>(*as<std::int64_t>()); }
};

struct JsonMember {
  std::string name;
  Json value;
};

// The object that `text` is. Throws Error, one line that names `what`, for anything else.
Json parse_object(std::string_view text, const std::string& what);

// Whether an object has exactly these members.
bool has_exactly(const Json& object, std::initializer_list<std::string_view> names);

}  // namespace sottovoce
