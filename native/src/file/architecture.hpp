// What a packed network is made of, and what goes into it (sottovoce.packed.architecture, sottovoce.runtime.result).
#pragma once

#include <cstdint>
#include <optional>

#include "file/json.hpp"
#include "frontend/settings.hpp"
#include "rnnt.hpp"

namespace sottovoce {

// Throws Error for another type of network, an unknown key or a size out of range.
RnntArchitecture read_architecture(const Json& fields);

// Features of `dim` values, `rate` frames a second; settings where the model computes them from a waveform.
struct ModelInput {
  std::int64_t dim;
  double rate;
  std::optional<FeatureSettings> settings;
};

// Throws Error for anything but {"kind": "waveform", ...} or {"kind": "features", "dim", "rate"}.
ModelInput read_input(const Json& fields);

}  // namespace sottovoce
