// Token ids to text, from the sentencepiece model inside a packed file (sottovoce.decoding.tokens).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sottovoce {

inline constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, which stands for a space in pieces

class Tokenizer {
 public:
  // A serialized sentencepiece model whose id 0 is the blank <blk>. Throws Error for anything else.
  explicit Tokenizer(std::span<const std::uint8_t> model);

  int vocabulary() const { return static_cast<int>(pieces_.size()); }
  const std::string& piece(std::int64_t id) const { return pieces_.at(static_cast<std::size_t>(id)).text; }

  // The text of ids, UTF-8; blanks are left out. Throws Error on an id outside the vocabulary.
  std::string decode(std::span<const std::int64_t> ids) const;

 private:
  struct Piece {
    std::string text;
    std::int64_t type;
  };

  void read_piece(std::string_view message);
  void read_trainer(std::string_view message);
  void read_normalizer(std::string_view message);
  void check() const;

  std::vector<Piece> pieces_;
  std::string unknown_ = " \xE2\x81\x87 ";  // what stands for the unknown token in a text
  bool dummy_prefix_ = true, remove_spaces_ = true;
};

}  // namespace sottovoce
