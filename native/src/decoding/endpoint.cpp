#include "decoding/endpoint.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "error.hpp"

namespace sottovoce {

void check_rules(const std::array<EndpointRule, 3>& rules) {
  for (const EndpointRule& rule : rules) {
    for (const double seconds : {rule.min_trailing_silence, rule.min_utterance_length}) {
      if (!(std::isfinite(seconds) && seconds >= 0)) throw Error("endpoint rule: times must be seconds of 0 or more");
    }
  }
}

bool is_endpoint(const std::array<EndpointRule, 3>& rules, const Segment& segment, double frame_seconds) {
  const double silence = frames_to_seconds(segment.trailing_blanks, frame_seconds);
  const double length = frames_to_seconds(segment.frames, frame_seconds);
  return std::any_of(rules.begin(), rules.end(), [&](const EndpointRule& rule) {
    return (segment.nonsilence || !rule.must_contain_nonsilence) && silence >= rule.min_trailing_silence &&
           length >= rule.min_utterance_length;
  });
}

double round_to_micros(double value) {
  char text[64];
  const auto written = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, 6);
  double rounded = value;
  std::from_chars(text, written.ptr, rounded);
  return rounded;
}

double frames_to_seconds(std::int64_t frames, double frame_seconds) {
  return round_to_micros(static_cast<double>(frames) * frame_seconds);
}

}  // namespace sottovoce
