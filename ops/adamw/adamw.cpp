#include "ops/adamw/adamw.h"

#include "core/profile.h"

namespace sg {
namespace {

void check_settings(const AdamWSettings& s) {
  check(s.lr >= 0, "adamw: lr: expected at least 0, found {}", s.lr);
  check(s.beta1 >= 0 && s.beta1 < 1, "adamw: beta1: expected [0, 1), found {}", s.beta1);
  check(s.beta2 >= 0 && s.beta2 < 1, "adamw: beta2: expected [0, 1), found {}", s.beta2);
  check(s.eps > 0, "adamw: eps: expected above 0, found {}", s.eps);
  check(s.weight_decay >= 0, "adamw: weight_decay: expected at least 0, found {}", s.weight_decay);
  check(s.ema_decay >= 0 && s.ema_decay < 1, "adamw: ema_decay: expected [0, 1), found {}",
        s.ema_decay);
  check(s.step >= 1, "adamw: step: expected at least 1, found {}", s.step);
}

}  // namespace

void adamw(const Tensor& p, const Tensor& g, const Tensor& m, const Tensor& v, const Tensor& ema,
           const std::vector<AdamWSegment>& segments, const AdamWSettings& settings) {
  check_dims("adamw", "p", p, 1);
  const auto check_buffer = [&](const char* name, const Tensor& t) {
    check_shape("adamw", name, t, p.shape());
    check_like("adamw", name, t, p);
  };
  check_buffer("g", g), check_buffer("m", m), check_buffer("v", v);
  const bool with_ema = settings.ema_decay > 0;
  if (with_ema) check_buffer("ema", ema);
  check_settings(settings);
  int64_t elements = 0, end = 0;
  for (const AdamWSegment& s : segments) {
    check(end <= s.begin && s.begin <= s.end && s.end <= p.numel(),
          "adamw: segment [{}, {}) does not lie in [{}, {}), after the one before it and inside "
          "the buffers",
          s.begin, s.end, end, p.numel());
    end = s.end;
    elements += s.end - s.begin;
  }
  const double n = double(elements), buffers = with_ema ? 9 : 7;
  const profile::Scope scope("adamw", (with_ema ? 18 : 15) * n,
                             buffers * n * double(size_of(p.dtype())));
  kernels::adamw(p.stream(), p, g, m, v, with_ema ? ema : Tensor(), segments, settings);
}

double sum_of_squares(const Tensor& g) {
  check(g.defined(), "sum_of_squares: g: missing");
  const Tensor result = empty({1}, Dtype::f64, g.device());
  {
    const profile::Scope scope("sum_of_squares", 2.0 * double(g.numel()), double(g.bytes()));
    kernels::sum_of_squares(g.stream(), g, result);
  }
  return result.item();
}

}  // namespace sg
