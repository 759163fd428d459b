#include "file/model_file.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "file/bands.hpp"
#include "file/float16.hpp"

namespace sottovoce {
namespace {

constexpr std::int64_t kVersion = 1;
constexpr std::string_view kTokenizer = "__tokenizer__";
constexpr std::string_view kObjects[] = {"architecture", "input", "aliases", "provenance", "matrices"};

bool is_float(Dtype dtype) { return dtype == Dtype::f16 || dtype == Dtype::f32; }

float float_at(const TensorView& array, std::size_t i) {
  if (array.dtype == Dtype::f32) {
    float value;
    std::memcpy(&value, array.bytes.data() + 4 * i, 4);
    return value;
  }
  std::uint16_t half;
  std::memcpy(&half, array.bytes.data() + 2 * i, 2);
  return float_of_half(half);
}

std::size_t count_floats(const TensorView& array) { return array.bytes.size() / (array.dtype == Dtype::f32 ? 4 : 2); }

// The matrix that a name such as W.12.codes would belong to; empty for other names.
std::string_view owner_of(std::string_view name) {
  const std::size_t last = name.rfind('.');
  if (last == std::string_view::npos) return {};
  const std::string_view part = name.substr(last + 1), rest = name.substr(0, last);
  if (part != "codes" && part != "levels" && part != "scale") return {};
  const std::size_t dot = rest.rfind('.');
  if (dot == std::string_view::npos || dot + 1 == rest.size()) return {};
  const std::string_view number = rest.substr(dot + 1);
  const bool digits = std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
  return digits ? rest.substr(0, dot) : std::string_view{};
}

Container open_container(const std::string& path) {
  try {
    return Container(path);
  } catch (const Error& error) {
    throw Error(path + ": " + error.what());
  }
}

}  // namespace

ModelFile::ModelFile(const std::string& path) : container_(open_container(path)) {
  try {
    read();
  } catch (const Error& error) {
    throw Error(path + ": " + error.what());
  }
}

void ModelFile::read() {
  check_fields();
  std::vector<std::string> parts;
  for (const JsonMember& entry : *container_.fields().find("matrices")->as<Json::Object>()) {
    matrices_.emplace(entry.name, read_matrix(container_, entry.name, entry.value, parts));
  }
  std::sort(parts.begin(), parts.end());
  for (const auto& [name, tensor] : container_.tensors()) {
    if (name == kTokenizer) {
      tokenizer_ = &tensor;
    } else if (!std::binary_search(parts.begin(), parts.end(), name)) {
      arrays_.emplace(name, &tensor);
    }
  }
  if (tokenizer_ && (tokenizer_->dtype != Dtype::u8 || tokenizer_->shape.size() != 1)) {
    throw Error("tensor __tokenizer__: expected uint8 bytes, found " + tokenizer_->describe());
  }
  check_aliases();
  container_.check_sums();
  check_arrays();
  for (const auto& [name, matrix] : matrices_) {
    check_values(name, matrix);
    forget(matrix);
  }
}

void ModelFile::check_fields() const {
  const Json& fields = container_.fields();
  const Json* version = fields.find("version");
  if (!version || !version->as<std::int64_t>() || *version->as<std::int64_t>() != kVersion) {
    throw Error("metadata: expected format version " + std::to_string(kVersion));
  }
  for (const std::string_view key : kObjects) {
    const Json* field = fields.find(key);
    if (!field) throw Error("metadata: missing key " + quoted(std::string(key)));
    if (!field->as<Json::Object>()) throw Error("metadata: expected " + std::string(key) + " to be an object");
  }
  for (const JsonMember& member : *fields.as<Json::Object>()) {
    const bool known = member.name == "version" || member.name == "crc32" ||
                       std::find(std::begin(kObjects), std::end(kObjects), member.name) != std::end(kObjects);
    if (!known) throw Error("metadata: unknown key " + quoted(member.name));
  }
}

void ModelFile::check_aliases() const {
  const auto stored = [&](std::string_view name) { return matrices_.contains(name) || arrays_.contains(name); };
  for (const JsonMember& alias : *container_.fields().find("aliases")->as<Json::Object>()) {
    const std::string* target = alias.value.as<std::string>();
    if (stored(alias.name) || !target || !stored(*target)) {
      throw Error("aliases: expected " + quoted(alias.name) + " to name another tensor");
    }
  }
}

void ModelFile::check_arrays() const {
  for (const auto& [name, array] : arrays_) {
    const std::string_view owner = owner_of(name);
    if (name.starts_with("__") || matrices_.contains(name) || (!owner.empty() && matrices_.contains(owner))) {
      throw Error("tensor " + name + ": unknown, or its name is taken");
    }
    if (!is_float(array->dtype)) continue;
    for (std::size_t i = 0; i < count_floats(*array); ++i) {
      if (std::isnan(float_at(*array, i))) throw Error("tensor " + name + ": expected numbers, found NaN");
    }
  }
}

std::string_view ModelFile::stored_name(std::string_view name) const {
  const Json* target = container_.fields().find("aliases")->find(name);
  return target ? std::string_view(*target->as<std::string>()) : name;
}

const FileMatrix* ModelFile::matrix(std::string_view name) const {
  const auto found = matrices_.find(stored_name(name));
  return found == matrices_.end() ? nullptr : &found->second;
}

const TensorView* ModelFile::array(std::string_view name) const {
  const auto found = arrays_.find(stored_name(name));
  return found == arrays_.end() ? nullptr : found->second;
}

void ModelFile::forget(const FileMatrix& matrix) const {
  for (const FileBand& band : matrix.bands) container_.file().forget(band.codes);
}

std::vector<float> ModelFile::floats(std::string_view name, const std::vector<std::int64_t>& shape) const {
  const FileMatrix* packed = matrix(name);
  const TensorView* plain = array(name);
  const std::string where(name);
  if (!packed && !plain) {
    throw Error(where + ": expected a tensor of shape " + describe_shape(shape) + ", found none of that name");
  }
  const std::vector<std::int64_t>& found = packed ? packed->shape : plain->shape;
  if (found != shape) {
    throw Error(where + ": expected shape " + describe_shape(shape) + ", found " + describe_shape(found));
  }
  if (packed) return packed->decode();
  if (!is_float(plain->dtype)) throw Error(where + ": expected floats, found " + plain->describe());
  std::vector<float> values(count_floats(*plain));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = float_at(*plain, i);
  return values;
}

}  // namespace sottovoce
