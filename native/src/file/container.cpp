#include "file/container.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "bits.hpp"
#include "file/crc32.hpp"
#include "file/utf8.hpp"

namespace sottovoce {
namespace {

constexpr std::uint64_t kMaxHeader = 64u << 20;
constexpr std::size_t kMaxTensors = 100'000, kMaxDimensions = 8, kMaxName = 512;
constexpr std::int64_t kMaxElements = std::int64_t{1} << 40, kMaxOffset = std::int64_t{1} << 62;

constexpr std::size_t kLength = 8, kDigits = 8;
constexpr std::string_view kHead = R"({"__metadata__":{"crc32":")";

struct DtypeName {
  std::string_view stored, name;
  Dtype dtype;
  std::int64_t bytes;
};

constexpr DtypeName kDtypes[] = {{"U8", "uint8", Dtype::u8, 1},    {"I8", "int8", Dtype::i8, 1},
                                 {"I16", "int16", Dtype::i16, 2},  {"I32", "int32", Dtype::i32, 4},
                                 {"I64", "int64", Dtype::i64, 8},  {"F16", "float16", Dtype::f16, 2},
                                 {"F32", "float32", Dtype::f32, 4}};

std::string hexadecimal(std::uint32_t value) {
  char text[kDigits + 1];
  std::snprintf(text, sizeof text, "%08x", value);
  return text;
}

// Categories of code points that cannot stand in a line: controls, and separators of lines and paragraphs.
bool is_printable(std::int32_t point) {
  return point >= 0x20 && !(point >= 0x7f && point < 0xa0) && point != 0x2028 && point != 0x2029;
}

// Their product where each is at least 1, or -1 where it passes the limit.
std::int64_t count_elements(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) {
    if (std::max<std::int64_t>(size, 1) > kMaxElements / count) return -1;
    count *= std::max<std::int64_t>(size, 1);
  }
  return count;
}

struct Entry {
  const std::string* name;
  const DtypeName* dtype;
  std::vector<std::int64_t> shape;
  std::int64_t begin, end;
};

Entry read_entry(const std::string& name, const Json& value) {
  check_name(name);
  const std::string where = "tensor " + name;
  if (!has_exactly(value, {"dtype", "shape", "data_offsets"})) {
    throw Error(where + ": expected dtype, shape and data_offsets");
  }
  const std::string* stored = value.find("dtype")->as<std::string>();
  const auto dtype = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                  [&](const DtypeName& known) { return stored && known.stored == *stored; });
  if (dtype == std::end(kDtypes)) throw Error(where + ": expected dtype U8, I8, I16, I32, I64, F16, F32");
  Entry entry{&name, &*dtype, integers(where, "shape", *value.find("shape"), kMaxDimension), 0, 0};
  const auto offsets = integers(where, "data_offsets", *value.find("data_offsets"), kMaxOffset);
  const std::int64_t count = entry.shape.size() > kMaxDimensions ? -1 : count_elements(entry.shape);
  if (count < 0) {
    throw Error(where + ": expected at most " + std::to_string(kMaxDimensions) + " dimensions and " +
                std::to_string(kMaxElements) + " elements");
  }
  const bool empty = std::find(entry.shape.begin(), entry.shape.end(), 0) != entry.shape.end();
  if (offsets.size() != 2 || offsets[1] - offsets[0] != (empty ? 0 : count * dtype->bytes)) {
    throw Error(where + ": data_offsets do not fit shape " + describe_shape(entry.shape));
  }
  entry.begin = offsets[0];
  entry.end = offsets[1];
  return entry;
}

void check_checksums(const Json& fields, const std::map<std::string, TensorView, std::less<>>& tensors) {
  const Json* sums = fields.find("crc32");
  if (!sums || !sums->as<Json::Object>()) throw Error("metadata: expected crc32 of each tensor");
  for (const auto& [name, tensor] : tensors) {
    if (!sums->find(name)) throw Error("tensor " + quoted(name) + ": found a tensor without a checksum");
  }
  for (const JsonMember& sum : *sums->as<Json::Object>()) {
    if (tensors.contains(sum.name)) continue;
    throw Error("tensor " + quoted(sum.name) + ": found a checksum without its tensor");
  }
}

std::string_view as_text(std::span<const std::uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

std::string describe_shape(const std::vector<std::int64_t>& shape) {
  std::string text = "(";
  for (const std::int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + ")";
}

std::string TensorView::describe() const {
  return std::string(kDtypes[static_cast<std::size_t>(dtype)].name) + " " + describe_shape(shape);
}

void check_name(const std::string& name) {
  std::size_t points = 0;
  for (std::size_t at = 0; at < name.size(); ++points) {
    if (!is_printable(next_code_point(name, at))) points = kMaxName;
  }
  if (points < 1 || points > kMaxName) {
    throw Error("tensor " + quoted(name) + ": expected a name of 1 to " + std::to_string(kMaxName) +
                " printable characters");
  }
}

std::vector<std::int64_t> integers(const std::string& where, const std::string& key, const Json& value,
                                   std::int64_t limit) {
  std::vector<std::int64_t> numbers;
  const Json::List* items = value.as<Json::List>();
  const auto fits = [&](const Json& item) {
    const std::int64_t* number = item.as<std::int64_t>();
    return number && *number >= 0 && *number <= limit;
  };
  if (!items || !std::all_of(items->begin(), items->end(), fits)) {
    throw Error(where + ": expected " + key + " to be integers from 0 to " + std::to_string(limit));
  }
  for (const Json& item : *items) numbers.push_back(*item.as<std::int64_t>());
  return numbers;
}

Container::Container(const std::string& path) : file_(path) {
  const std::span<const std::uint8_t> head = checked_head();
  const Json header = parse_object(as_text(head), "header");
  const Json* metadata = header.find("__metadata__");
  if (!metadata || !has_exactly(*metadata, {"crc32", "sottovoce"})) {
    throw Error("header: expected metadata entries crc32 and sottovoce");
  }
  const std::string* text = metadata->find("sottovoce")->as<std::string>();
  if (!text) throw Error("header: expected metadata sottovoce to be text");
  read_tensors(header, file_.bytes().subspan(kLength + head.size()));
  fields_ = parse_object(*text, "metadata");
  check_checksums(fields_, tensors_);
}

// The header's bytes, once length and checksum agree; nothing of it is parsed before.
std::span<const std::uint8_t> Container::checked_head() const {
  const std::span<const std::uint8_t> file = file_.bytes();
  if (file.size() < kLength) {
    throw Error("expected a model file of at least 8 bytes, found " + std::to_string(file.size()));
  }
  const std::uint64_t length = load_word(file.data());
  if (length > kMaxHeader) {
    throw Error("header: expected at most " + std::to_string(kMaxHeader) + " bytes, found " + std::to_string(length));
  }
  if (length > file.size() - kLength) {
    throw Error("header: expected " + std::to_string(length) + " bytes, found " +
                std::to_string(file.size() - kLength) + ": the file is cut short");
  }
  const auto head = file.subspan(kLength, static_cast<std::size_t>(length));
  constexpr std::size_t kPrefix = kHead.size() + kDigits;
  if (head.size() < kPrefix || as_text(head.first(kHead.size())) != kHead) {
    throw Error("not a Sottovoce model file: no checksum at the start of its header");
  }
  constexpr std::uint8_t kZeros[kDigits] = {'0', '0', '0', '0', '0', '0', '0', '0'};
  std::uint32_t crc = crc32(file.first(kLength + kHead.size()));  // its own digits count as zeros
  crc = crc32(head.subspan(kPrefix), crc32(kZeros, crc));
  if (as_text(head.subspan(kHead.size(), kDigits)) != hexadecimal(crc)) {
    throw Error("header does not match its checksum: the file is damaged");
  }
  return head;
}

void Container::read_tensors(const Json& header, std::span<const std::uint8_t> data) {
  std::vector<Entry> entries;
  for (const JsonMember& member : *header.as<Json::Object>()) {
    if (member.name != "__metadata__") entries.push_back(read_entry(member.name, member.value));
  }
  if (entries.size() > kMaxTensors) {
    throw Error("expected at most " + std::to_string(kMaxTensors) + " tensors, found " +
                std::to_string(entries.size()));
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  const auto size = static_cast<std::int64_t>(data.size());
  std::int64_t at = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != at) {
      throw Error("tensor " + *entry.name + ": expected to begin at byte " + std::to_string(at) + ", found " +
                  std::to_string(entry.begin));
    }
    at = entry.end;
  }
  if (at != size) {
    throw Error("expected " + std::to_string(at) + " bytes of data, found " + std::to_string(size) +
                ": the file is cut short or overlong");
  }
  for (Entry& entry : entries) {
    const auto bytes =
        data.subspan(static_cast<std::size_t>(entry.begin), static_cast<std::size_t>(entry.end - entry.begin));
    // Our writer puts wider types first; a file that does not could not be read in place.
    if (reinterpret_cast<std::uintptr_t>(bytes.data()) % static_cast<std::uintptr_t>(entry.dtype->bytes) != 0) {
      throw Error("tensor " + *entry.name + ": expected to be aligned to its dtype");
    }
    tensors_.emplace(*entry.name, TensorView{entry.dtype->dtype, std::move(entry.shape), bytes});
  }
}

void Container::check_sums() const {
  const Json& sums = *fields_.find("crc32");
  for (const auto& [name, tensor] : tensors_) {
    const std::string* stated = sums.find(name)->as<std::string>();
    if (!stated || *stated != hexadecimal(crc32(tensor.bytes))) {
      throw Error("tensor " + name + " does not match its checksum: the file is damaged");
    }
  }
}

}  // namespace sottovoce
