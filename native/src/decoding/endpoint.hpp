// Where an utterance ends: rules over trailing blanks (sottovoce.decoding.endpoint).
#pragma once

#include <array>
#include <cstdint>

namespace sottovoce {

// Holds when all of it holds; times in seconds.
struct EndpointRule {
  bool must_contain_nonsilence;
  double min_trailing_silence, min_utterance_length;
};

// The part of a stream since it was last reset, in encoder frames, by its best hypothesis.
struct Segment {
  std::int64_t start, frames, trailing_blanks;
  bool nonsilence;  // whether it has a token
};

inline constexpr std::array<EndpointRule, 3> kDefaultRules{{{false, 2.4, 0}, {true, 1.2, 0}, {false, 0, 20}}};

// Throws Error for times that are negative or not finite.
void check_rules(const std::array<EndpointRule, 3>& rules);

// Whether any of the rules holds; frame_seconds is the time from one encoder frame to the next.
bool is_endpoint(const std::array<EndpointRule, 3>& rules, const Segment& segment, double frame_seconds);

// Rounded to six places as Python's round does: the decimal number nearest to the exact value.
double round_to_micros(double value);

double frames_to_seconds(std::int64_t frames, double frame_seconds);

}  // namespace sottovoce
