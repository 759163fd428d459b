#include "file/architecture.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace sottovoce {
namespace {

constexpr std::int64_t kMostUnits = 1'000'000;
constexpr double kMostPenalty = 1e3;  // nats

// Those of Python's class; sizes without a default are 0.
const RnntArchitecture kDefaults{.features = 0,
                                 .vocabulary = 0,
                                 .stack = 4,
                                 .stride = 2,
                                 .encoder_layers = 2,
                                 .encoder_units = 256,
                                 .layer_norm = true,
                                 .reduction = 2,
                                 .reduction_after = 1,
                                 .embedding = 128,
                                 .predictor_layers = 1,
                                 .predictor_units = 128,
                                 .joiner_units = 128,
                                 .pcen = std::nullopt,
                                 .blank_penalty = 0};

struct Size {
  std::string_view name;
  int RnntArchitecture::* member;
};

constexpr Size kSizes[] = {{"features", &RnntArchitecture::features},
                           {"vocabulary", &RnntArchitecture::vocabulary},
                           {"stack", &RnntArchitecture::stack},
                           {"stride", &RnntArchitecture::stride},
                           {"encoder_layers", &RnntArchitecture::encoder_layers},
                           {"encoder_units", &RnntArchitecture::encoder_units},
                           {"reduction", &RnntArchitecture::reduction},
                           {"reduction_after", &RnntArchitecture::reduction_after},
                           {"embedding", &RnntArchitecture::embedding},
                           {"predictor_layers", &RnntArchitecture::predictor_layers},
                           {"predictor_units", &RnntArchitecture::predictor_units},
                           {"joiner_units", &RnntArchitecture::joiner_units}};

struct Setting {
  std::string_view name;
  double Pcen::* member;
  double low, high;
};

constexpr Setting kPcen[] = {
    {"smoothing", &Pcen::smoothing, 1e-6, 1.0}, {"gain", &Pcen::gain, 0.0, 1.0}, {"bias", &Pcen::bias, 0.0, 1e3}};

[[noreturn]] void refuse_key(const std::string& name) { throw Error("architecture: unknown key " + quoted(name)); }

void read_size(RnntArchitecture& a, const Size& size, const Json& value) {
  const bool depth = size.name == "reduction_after";
  const std::int64_t low = depth ? 0 : 1, high = depth ? 64 : kMostUnits;
  const std::int64_t* number = value.as<std::int64_t>();
  if (!number || *number < low || *number > high) {
    throw Error("architecture: " + std::string(size.name) + " must be an integer in [" + std::to_string(low) + ", " +
                std::to_string(high) + "]");
  }
  a.*size.member = static_cast<int>(*number);
}

std::optional<Pcen> read_pcen(const Json& fields) {
  if (fields.as<std::nullptr_t>()) return std::nullopt;
  if (!fields.as<Json::Object>()) throw Error("architecture: pcen must be a mapping of its settings");
  Pcen pcen{0.008, 0.8, 2.0};
  for (const JsonMember& member : *fields.as<Json::Object>()) {
    const auto setting = std::find_if(std::begin(kPcen), std::end(kPcen),
                                      [&](const Setting& known) { return known.name == member.name; });
    if (setting == std::end(kPcen)) refuse_key("pcen." + member.name);
    const double value = member.value.is_number() ? member.value.number() : NAN;
    if (!(value >= setting->low && value <= setting->high)) {
      throw Error("architecture: pcen." + member.name + " is out of range");
    }
    pcen.*setting->member = value;
  }
  return pcen;
}

float read_blank_penalty(const Json& value) {
  const double penalty = value.is_number() ? value.number() : NAN;
  if (!(std::abs(penalty) <= kMostPenalty)) throw Error("architecture: blank_penalty is out of range");
  return static_cast<float>(penalty);
}

}  // namespace

RnntArchitecture read_architecture(const Json& fields) {
  const Json* type = fields.find("type");
  if (!type || !type->as<std::string>() || *type->as<std::string>() != "rnnt") {
    throw Error("architecture: expected type 'rnnt'");
  }
  RnntArchitecture a = kDefaults;
  for (const JsonMember& member : *fields.as<Json::Object>()) {
    const auto size = std::find_if(std::begin(kSizes), std::end(kSizes),
                                   [&](const Size& known) { return known.name == member.name; });
    if (size != std::end(kSizes)) {
      read_size(a, *size, member.value);
    } else if (member.name == "layer_norm") {
      // Python takes whatever is true; files hold true or false.
      if (!member.value.as<bool>()) throw Error("architecture: layer_norm must be true or false");
      a.layer_norm = *member.value.as<bool>();
    } else if (member.name == "pcen") {
      a.pcen = read_pcen(member.value);
    } else if (member.name == "blank_penalty") {
      a.blank_penalty = read_blank_penalty(member.value);
    } else if (member.name != "type") {
      refuse_key(member.name);
    }
  }
  if (a.features == 0 || a.vocabulary == 0) throw Error("architecture: features and vocabulary must be given");
  try {
    a.check();
  } catch (const std::invalid_argument& error) {
    throw Error(error.what());
  }
  return a;
}

ModelInput read_input(const Json& fields) {
  const Json* kind = fields.find("kind");
  const std::string* name = kind ? kind->as<std::string>() : nullptr;
  if (name && *name == "waveform") {
    const FeatureSettings settings = read_settings(fields);
    return {settings.bins, 1000.0 / settings.shift_ms, settings};
  }
  if (!name || *name != "features") throw Error("input: expected kind 'waveform' or 'features'");
  const Json *dim = fields.find("dim"), *rate = fields.find("rate");
  const bool numbers = has_exactly(fields, {"kind", "dim", "rate"}) && dim->as<std::int64_t>() && rate->is_number();
  if (!numbers || *dim->as<std::int64_t>() < 1 || !(rate->number() > 0 && rate->number() < 1e6)) {
    throw Error("input: expected a dim of 1 or more and a rate above 0");
  }
  return {*dim->as<std::int64_t>(), rate->number(), std::nullopt};
}

}  // namespace sottovoce
