// A safetensors file that vouches for each of its bytes (sottovoce.packed.container).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "file/json.hpp"
#include "file/mapped_file.hpp"

namespace sottovoce {

inline constexpr std::int64_t kMaxDimension = std::int64_t{1} << 31;

enum class Dtype { u8, i8, i16, i32, i64, f16, f32 };

// Where a tensor lies; bytes are aligned to its dtype and as many as its shape takes.
struct TensorView {
  Dtype dtype;
  std::vector<std::int64_t> shape;
  std::span<const std::uint8_t> bytes;

  std::string describe() const;  // "uint8 (3, 4)"
};

// Header, layout and limits are checked when it opens, the tensors' bytes by check_sums.
class Container {
 public:
  explicit Container(const std::string& path);  // throws Error, one line without the file's name

  const std::map<std::string, TensorView, std::less<>>& tensors() const { return tensors_; }
  const Json& fields() const { return fields_; }  // our JSON object, the checksums among it

  const MappedFile& file() const { return file_; }

  void check_sums() const;  // throws Error naming the first tensor that differs from its CRC-32

 private:
  std::span<const std::uint8_t> checked_head() const;
  void read_tensors(const Json& header, std::span<const std::uint8_t> data);

  MappedFile file_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  Json fields_;
};

// Throws Error unless a tensor's name can stand in a line of text.
void check_name(const std::string& name);

// A list of integers from 0 to limit. Throws Error otherwise.
std::vector<std::int64_t> integers(const std::string& where, const std::string& key, const Json& value,
                                   std::int64_t limit);

std::string describe_shape(const std::vector<std::int64_t>& shape);  // "(3, 4)"

}  // namespace sottovoce
