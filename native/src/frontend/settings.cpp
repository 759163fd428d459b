#include "frontend/settings.hpp"

#include <algorithm>
#include <cmath>

namespace sottovoce {
namespace {

struct Limits {
  std::string_view name;
  double low, high;
  int FeatureSettings::* integer;
  double FeatureSettings::* real;
};

constexpr Limits kLimits[] = {{"sample_rate", 2'000, 192'000, &FeatureSettings::sample_rate, nullptr},
                              {"bins", 3, 256, &FeatureSettings::bins, nullptr},
                              {"low_hz", 0, 96'000, nullptr, &FeatureSettings::low_hz},
                              {"high_hz", -96'000, 96'000, nullptr, &FeatureSettings::high_hz},
                              {"frame_ms", 1, 200, nullptr, &FeatureSettings::frame_ms},
                              {"shift_ms", 1, 200, nullptr, &FeatureSettings::shift_ms}};

[[noreturn]] void refuse(const std::string& what) { throw Error("input: features: " + what); }

double mel(double hz) { return 1127.0 * std::log(1.0 + hz / 700.0); }
double hertz(double mels) { return 700.0 * (std::exp(mels / 1127.0) - 1.0); }

void check(const FeatureSettings& s) {
  if (s.shift_ms > s.frame_ms) refuse("shift_ms exceeds frame_ms: audio would be lost");
  if (!(s.low_hz < s.top_hz() && s.top_hz() <= s.sample_rate / 2.0)) {
    refuse("the band from low_hz to high_hz is not inside 0 to " + std::to_string(s.sample_rate / 2) + " Hz");
  }
  if (s.nemo && (s.low_hz != 0 || s.top_hz() != s.sample_rate / 2.0)) {
    refuse("style nemo has filters from 0 to " + std::to_string(s.sample_rate / 2) + " Hz");
  }
  // The lowest filter is the narrowest; one without a spectral line in it would be constant.
  const double low = mel(s.low_hz), lowest = hertz(low + 2 * (mel(s.top_hz()) - low) / (s.bins + 1)) - s.low_hz;
  const int doublings = std::max(1, static_cast<int>(std::ceil(std::log2(s.sample_rate * 0.001 * s.frame_ms))));
  if (lowest < static_cast<double>(s.sample_rate) / (1 << doublings)) {
    refuse(std::to_string(s.bins) + " bins are too many for these frames");
  }
}

}  // namespace

FeatureSettings read_settings(const Json& fields) {
  FeatureSettings settings;
  for (const JsonMember& member : *fields.as<Json::Object>()) {
    if (member.name == "kind") continue;
    if (member.name == "style") {
      const std::string* style = member.value.as<std::string>();
      if (!style || (*style != "kaldi" && *style != "nemo")) refuse("style must be kaldi or nemo");
      settings.nemo = *style == "nemo";
      continue;
    }
    const auto limits = std::find_if(std::begin(kLimits), std::end(kLimits),
                                     [&](const Limits& known) { return known.name == member.name; });
    if (limits == std::end(kLimits)) refuse("unknown setting " + quoted(member.name));
    const bool right_kind = limits->integer ? member.value.as<std::int64_t>() != nullptr : member.value.is_number();
    const double value = right_kind ? member.value.number() : NAN;
    if (!(value >= limits->low && value <= limits->high)) refuse(member.name + " is out of range");
    if (limits->integer) {
      settings.*limits->integer = static_cast<int>(value);
    } else {
      settings.*limits->real = value;
    }
  }
  check(settings);
  return settings;
}

}  // namespace sottovoce
