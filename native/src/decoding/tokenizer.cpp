#include "decoding/tokenizer.hpp"

#include <algorithm>
#include <charconv>
#include <set>

#include "decoding/protobuf.hpp"
#include "decoding/transducer.hpp"
#include "error.hpp"
#include "file/utf8.hpp"

namespace sottovoce {
namespace {

// Field numbers and values of sentencepiece_model.proto.
enum ModelField { kPieces = 1, kTrainer = 2, kNormalizer = 3, kDenormalizer = 5 };
enum PieceField { kText = 1, kType = 3 };
enum PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6 };
constexpr std::uint64_t kUnknownSurface = 44;
enum NormalizerField { kCharsmap = 2, kDummyPrefix = 3, kRemoveSpaces = 4 };

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD, for bytes that are no UTF-8
constexpr std::string_view kBlankPiece = "<blk>";

[[noreturn]] void refuse(const std::string& what) { throw Error("tokenizer: " + what); }

std::string checked_text(std::string_view text) {
  if (!is_utf8(text)) refuse("a text that is not UTF-8");
  return std::string(text);
}

// The byte of a piece such as <0x0A>.
char byte_of(const std::string& piece) {
  unsigned value = 0;
  const char* digits = piece.data() + 3;
  const bool framed = piece.size() == 6 && piece.starts_with("<0x") && piece.ends_with(">");
  if (!framed || std::from_chars(digits, digits + 2, value, 16).ptr != digits + 2) {
    refuse("piece " + quoted(piece) + " is no byte");
  }
  return static_cast<char>(static_cast<unsigned char>(value));
}

std::string with_spaces(std::string_view piece) {
  std::string text;
  for (std::size_t at = 0; at < piece.size();) {
    const bool space = piece.substr(at, kSpace.size()) == kSpace;
    text += space ? ' ' : piece[at];
    at += space ? kSpace.size() : 1;
  }
  return text;
}

// Whole characters as they are, each other byte as U+FFFD.
void append_bytes(const std::string& bytes, std::string& text) {
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t start = at;
    const bool right = next_code_point(bytes, at) >= 0;
    text += right ? std::string_view(bytes).substr(start, at - start) : kReplacement;
  }
}

}  // namespace

Tokenizer::Tokenizer(std::span<const std::uint8_t> model) {
  if (model.empty()) refuse("the sentencepiece model is empty");
  ProtoReader reader({reinterpret_cast<const char*>(model.data()), model.size()});
  for (ProtoField field; reader.next(field);) {
    if (field.wire != 2) continue;
    if (field.number == kPieces) read_piece(field.bytes);
    if (field.number == kTrainer) read_trainer(field.bytes);
    if (field.number == kNormalizer) read_normalizer(field.bytes);
    if (field.number == kDenormalizer) {
      ProtoReader rules(field.bytes);
      for (ProtoField rule; rules.next(rule);) {
        // Text would be changed after decoding; our tokenizers are trained without it.
        if (rule.number == kCharsmap && !rule.bytes.empty()) refuse("denormalization is not supported");
      }
    }
  }
  check();
}

void Tokenizer::read_piece(std::string_view message) {
  Piece piece{"", kNormal};
  ProtoReader reader(message);
  for (ProtoField field; reader.next(field);) {
    if (field.number == kText && field.wire == 2) piece.text = checked_text(field.bytes);
    if (field.number == kType && field.wire == 0) piece.type = static_cast<std::int64_t>(field.integer);
  }
  if (piece.text.empty()) refuse("a piece is empty");
  if (piece.type == kByte) byte_of(piece.text);
  pieces_.push_back(std::move(piece));
}

void Tokenizer::read_trainer(std::string_view message) {
  ProtoReader reader(message);
  for (ProtoField field; reader.next(field);) {
    if (field.number == kUnknownSurface && field.wire == 2) unknown_ = checked_text(field.bytes);
  }
}

void Tokenizer::read_normalizer(std::string_view message) {
  ProtoReader reader(message);
  for (ProtoField field; reader.next(field);) {
    if (field.number == kDummyPrefix && field.wire == 0) dummy_prefix_ = field.integer != 0;
    if (field.number == kRemoveSpaces && field.wire == 0) remove_spaces_ = field.integer != 0;
  }
}

void Tokenizer::check() const {
  if (pieces_.size() < 2) {
    refuse("a vocabulary of at least 2 pieces expected, found " + std::to_string(pieces_.size()));
  }
  std::set<std::string_view> seen;
  for (const Piece& piece : pieces_) {
    if (!seen.insert(piece.text).second) refuse("piece " + quoted(piece.text) + " is given twice");
  }
  const auto unknown = [](const Piece& piece) { return piece.type == kUnknown; };
  if (std::count_if(pieces_.begin(), pieces_.end(), unknown) != 1) refuse("expected one unknown piece");
  if (pieces_[0].text != kBlankPiece || pieces_[0].type != kControl) {
    refuse("id 0 must be the blank '<blk>', found " + quoted(pieces_[0].text));
  }
}

std::string Tokenizer::decode(std::span<const std::int64_t> ids) const {
  std::string text, bytes;
  bool start = true, start_seen = false;  // whether a space at the beginning of the text is still to be taken away
  for (const std::int64_t id : ids) {
    if (id < 0 || id >= vocabulary()) {
      throw Error("token id " + std::to_string(id) + " is outside the vocabulary of " + std::to_string(vocabulary()));
    }
    if (id == kBlank) continue;
    const Piece& piece = pieces_[static_cast<std::size_t>(id)];
    if (piece.type == kByte) {
      bytes += byte_of(piece.text);
      continue;
    }
    append_bytes(bytes, text);
    bytes.clear();
    if (start_seen || !text.empty()) start = false;
    start_seen = false;
    if (piece.type == kControl) continue;
    if (piece.type == kUnknown) {
      text += unknown_;
      continue;
    }
    std::string_view rest = piece.text;
    if (start && (dummy_prefix_ || remove_spaces_) && rest.starts_with(kSpace)) {
      rest.remove_prefix(kSpace.size());
      start_seen = !remove_spaces_;  // where spaces are removed, all those at the beginning are
    }
    text += with_spaces(rest);
  }
  append_bytes(bytes, text);
  return text;
}

}  // namespace sottovoce
