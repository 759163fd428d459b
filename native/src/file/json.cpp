#include "file/json.hpp"

#include <algorithm>
#include <charconv>

#include "file/utf8.hpp"

namespace sottovoce {
namespace {

constexpr int kMostDepth = 64;

class Parser {
 public:
  Parser(std::string_view text, const std::string& what) : text_(text), what_(what) {}

  Json document() {
    if (!is_utf8(text_)) fail("bytes that are not UTF-8");
    Json value = parse(0);
    skip_space();
    if (at_ != text_.size()) fail("more after it");
    if (!value.as<Json::Object>()) fail("another value");
    return value;
  }

 private:
  [[noreturn]] void fail(const char* found) const {
    throw Error(what_ + ": expected a JSON object, found " + found + " (byte " + std::to_string(at_) + ")");
  }

  bool more() const { return at_ < text_.size(); }
  char peek() const { return more() ? text_[at_] : '\0'; }

  void skip_space() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++at_;
  }

  bool take(char expected) {
    if (!more() || text_[at_] != expected) return false;
    ++at_;
    return true;
  }

  bool take_word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Json parse(int depth) {
    if (depth > kMostDepth) fail("one too deeply nested");
    skip_space();
    if (take('{')) return {object(depth)};
    if (take('[')) return {list(depth)};
    if (take('"')) return {string()};
    if (take_word("true")) return {true};
    if (take_word("false")) return {false};
    if (take_word("null")) return {nullptr};
    return number();
  }

  Json::Object object(int depth) {
    Json::Object members;
    skip_space();
    if (take('}')) return members;
    do {
      skip_space();
      if (!take('"')) fail("a key without quotes");
      std::string name = string();
      skip_space();
      if (!take(':')) fail("a key without a value");
      members.push_back({std::move(name), parse(depth + 1)});
      skip_space();
    } while (take(','));
    if (!take('}')) fail("an object without an end");
    const auto before = [](const JsonMember& a, const JsonMember& b) { return a.name < b.name; };
    std::sort(members.begin(), members.end(), before);
    for (std::size_t i = 1; i < members.size(); ++i) {
      if (members[i].name == members[i - 1].name) fail("a key given twice");
    }
    return members;
  }

  Json::List list(int depth) {
    Json::List items;
    skip_space();
    if (take(']')) return items;
    do {
      items.push_back(parse(depth + 1));
      skip_space();
    } while (take(','));
    if (!take(']')) fail("a list without an end");
    return items;
  }

  std::string string() {
    std::string out;
    while (more() && text_[at_] != '"') {
      const char c = text_[at_++];
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character");
      if (c == '\\') {
        escape(out);
      } else {
        out += c;
      }
    }
    if (!take('"')) fail("a text without an end");
    return out;
  }

  void escape(std::string& out) {
    constexpr std::string_view kNames = "\"\\/bfnrt", kValues = "\"\\/\b\f\n\r\t";
    const char c = peek();
    ++at_;
    if (c == 'u') {
      std::uint32_t point = hexadecimal();
      if (point >= 0xd800 && point < 0xdc00 && take_word("\\u")) {
        const std::uint32_t low = hexadecimal();
        if (low < 0xdc00 || low >= 0xe000) fail("half a surrogate pair");
        point = 0x10000 + ((point - 0xd800) << 10 | (low - 0xdc00));
      }
      if (point >= 0xd800 && point < 0xe000) fail("half a surrogate pair");
      append_utf8(out, point);
    } else if (const std::size_t i = kNames.find(c); i != std::string_view::npos) {
      out += kValues[i];
    } else {
      fail("an unknown escape");
    }
  }

  std::uint32_t hexadecimal() {
    std::uint32_t value = 0;
    if (text_.size() - std::min(at_, text_.size()) < 4) fail("an unknown escape");
    const char* first = text_.data() + at_;
    const auto [end, error] = std::from_chars(first, first + 4, value, 16);
    if (error != std::errc{} || end != first + 4) fail("an unknown escape");
    at_ += 4;
    return value;
  }

  void digits() {
    if (peek() < '0' || peek() > '9') fail("an unknown value");
    while (peek() >= '0' && peek() <= '9') ++at_;
  }

  Json number() {
    const std::size_t start = at_;
    take('-');
    if (!take('0')) digits();
    bool whole = true;
    if (take('.')) {
      whole = false;
      digits();
    }
    if (take('e') || take('E')) {
      whole = false;
      if (!take('+')) take('-');
      digits();
    }
    const char *first = text_.data() + start, *last = text_.data() + at_;
    std::int64_t integer = 0;
    if (whole && std::from_chars(first, last, integer).ec == std::errc{}) return {integer};
    double real = 0;
    if (std::from_chars(first, last, real).ec != std::errc{}) fail("a number out of range");
    return {real};
  }

  std::string_view text_;
  const std::string& what_;
  std::size_t at_ = 0;
};

}  // namespace

const Json* Json::find(std::string_view name) const {
  const Object* members = as<Object>();
  if (!members) return nullptr;
  const auto at = std::lower_bound(members->begin(), members->end(), name,
                                   [](const JsonMember& member, std::string_view key) { return member.name < key; });
  return at != members->end() && at->name == name ? &at->value : nullptr;
}

Json parse_object(std::string_view text, const std::string& what) { return Parser(text, what).document(); }

bool has_exactly(const Json& object, std::initializer_list<std::string_view> names) {
  const Json::Object* members = object.as<Json::Object>();
  return members && members->size() == names.size() &&
         std::all_of(names.begin(), names.end(), [&](std::string_view name) { return object.find(name); });
}

}  // namespace sottovoce
