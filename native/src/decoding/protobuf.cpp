#include "decoding/protobuf.hpp"

#include "error.hpp"

namespace sottovoce {
namespace {

[[noreturn]] void refuse() { throw Error("tokenizer: not a sentencepiece model"); }

}  // namespace

bool ProtoReader::next(ProtoField& field) {
  if (rest_.empty()) return false;
  const std::uint64_t key = varint();
  field = {key >> 3, 0, {}, static_cast<int>(key & 7)};
  switch (field.wire) {
    case 0: field.integer = varint(); break;
    case 1: take(8); break;
    case 2: field.bytes = take(varint()); break;
    case 5: take(4); break;
    default: refuse();
  }
  if (field.number == 0) refuse();
  return true;
}

std::uint64_t ProtoReader::varint() {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const auto byte = static_cast<std::uint8_t>(take(1)[0]);
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  refuse();
}

std::string_view ProtoReader::take(std::uint64_t count) {
  if (count > rest_.size()) refuse();
  const std::string_view taken = rest_.substr(0, static_cast<std::size_t>(count));
  rest_.remove_prefix(taken.size());
  return taken;
}

}  // namespace sottovoce
