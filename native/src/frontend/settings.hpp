// What filterbank features are made of (sottovoce.frontend.settings).
#pragma once

#include "file/json.hpp"

namespace sottovoce {

struct FeatureSettings {
  int sample_rate = 16'000;
  int bins = 80;
  double low_hz = 20.0;
  double high_hz = -400.0;  // zero or negative: an offset from the Nyquist frequency
  double frame_ms = 25.0;
  double shift_ms = 10.0;
  bool nemo = false;  // style "nemo": Hann window, DC offset kept, librosa's filters; else Kaldi's

  double top_hz() const { return high_hz > 0 ? high_hz : sample_rate / 2.0 + high_hz; }
};

// The settings beside the key "kind"; missing ones keep defaults. Throws Error on unknown keys or bad values.
FeatureSettings read_settings(const Json& fields);

}  // namespace sottovoce
