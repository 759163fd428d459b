// The fields of a serialized protocol buffer, sizes checked.
#pragma once

#include <cstdint>
#include <string_view>

namespace sottovoce {

struct ProtoField {
  std::uint64_t number;
  std::uint64_t integer;   // of a varint
  std::string_view bytes;  // of a text, bytes or a message
  int wire;                // 0: varint, 2: bytes; 1 and 5, numbers of fixed size, are skipped
};

class ProtoReader {
 public:
  explicit ProtoReader(std::string_view message) : rest_(message) {}

  // Reads the next field; false at the end. Throws Error where the message is cut short or malformed.
  bool next(ProtoField& field);

 private:
  std::uint64_t varint();
  std::string_view take(std::uint64_t count);

  std::string_view rest_;
};

}  // namespace sottovoce
