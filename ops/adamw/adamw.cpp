#include "ops/adamw/adamw.h"

#include <cmath>

#include "core/profile.h"

namespace sg {
namespace {

void check_settings(const AdamWSettings& s) {
  check(s.beta1 >= 0 && s.beta1 < 1, "adamw: beta1: expected [0, 1), found {}", s.beta1);
  check(s.beta2 >= 0 && s.beta2 < 1, "adamw: beta2: expected [0, 1), found {}", s.beta2);
  check(s.eps > 0, "adamw: eps: expected above 0, found {}", s.eps);
  check(s.weight_decay >= 0, "adamw: weight_decay: expected at least 0, found {}", s.weight_decay);
  check(s.ema_decay >= 0 && s.ema_decay < 1, "adamw: ema_decay: expected [0, 1), found {}",
        s.ema_decay);
  check(s.clip_grad >= 0, "adamw: clip_grad: expected at least 0, found {}", s.clip_grad);
}

// (n, 4): long segments cut in pieces, neighbours with the same factors joined first.
std::vector<double> cut(const std::vector<AdamWSegment>& segments) {
  std::vector<AdamWSegment> joined;
  for (const AdamWSegment& s : segments) {
    const bool joins = !joined.empty() && joined.back().end == s.begin &&
                       joined.back().lr_scale == s.lr_scale &&
                       joined.back().weight_decay_scale == s.weight_decay_scale;
    if (joins)
      joined.back().end = s.end;
    else if (s.begin < s.end)
      joined.push_back(s);
  }
  std::vector<double> pieces;
  for (const AdamWSegment& s : joined)
    for (int64_t at = s.begin; at < s.end; at += AdamWPlan::kPiece)
      pieces.insert(pieces.end(), {double(at), double(std::min(at + AdamWPlan::kPiece, s.end)),
                                   s.lr_scale, s.weight_decay_scale});
  return pieces;
}

}  // namespace

ClipMode parse_clip_mode(std::string_view text) {
  if (text == "norm") return ClipMode::norm;
  if (text == "value") return ClipMode::value;
  fail(ExitCode::usage, "--clip-mode: expected norm or value, found '{}'{}", text,
       text == "agc" ? "; adaptive clipping is not built in: norm limits the gradient as a whole"
                     : "");
}

AdamWPlan plan_adamw(std::vector<AdamWSegment> segments, int64_t n, Device device) {
  int64_t end = 0;
  for (const AdamWSegment& s : segments) {
    check(end <= s.begin && s.begin <= s.end && s.end <= n,
          "adamw: segment [{}, {}) does not lie in [{}, {}), after the one before it and inside "
          "the buffers",
          s.begin, s.end, end, n);
    end = s.end;
  }
  AdamWPlan plan{std::move(segments), {}};
  if (device.type != DeviceType::cpu) {
    const std::vector<double> pieces = cut(plan.segments);
    plan.pieces = from_vector(pieces, {int64_t(pieces.size()) / 4, 4}).to(device);
  }
  return plan;
}

std::array<double, kAdamWControl> adamw_control(const AdamWStep& step, const AdamWSettings& s) {
  check_settings(s);
  check(step.lr >= 0, "adamw: lr: expected at least 0, found {}", step.lr);
  check(step.t >= 1, "adamw: t: expected at least 1, found {}", step.t);
  const double ema_decay = step.ema_decay.value_or(s.ema_decay);
  check(ema_decay >= 0 && ema_decay < 1, "adamw: ema_decay: expected [0, 1), found {}", ema_decay);
  return {step.lr, 1 - std::pow(s.beta1, double(step.t)),
          std::sqrt(1 - std::pow(s.beta2, double(step.t))), step.grad_scale, 1 - ema_decay};
}

void adamw(const AdamWBuffers& b, const AdamWPlan& plan, const AdamWSettings& settings,
           const Tensor& control, const Tensor& loss, Out outcome) {
  check_dims("adamw", "p", b.p, 1);
  const auto check_buffer = [&](const char* name, const Tensor& t) {
    check_shape("adamw", name, t, b.p.shape());
    check_like("adamw", name, t, b.p);
  };
  check_buffer("g", b.g), check_buffer("m", b.m), check_buffer("v", b.v);
  if (settings.ema_decay > 0) check_buffer("ema", b.ema);
  if (b.bf16_values) {
    check_shape("adamw", "bf16_values", b.bf16_values, b.p.shape());
    check(b.bf16_values.dtype() == Dtype::bf16 && b.bf16_values.device() == b.p.device(),
          "adamw: bf16_values: expected bf16 on {}, found {} on {}", str(b.p.device()),
          name_of(b.bf16_values.dtype()), str(b.bf16_values.device()));
    check_acc_dtype("adamw", "p, which bf16_values follows", b.p, b.bf16_values);
  }
  check_settings(settings);
  check_shape("adamw", "control", control, {kAdamWControl});
  check_shape("adamw", "outcome", outcome, {kAdamWOutcome});
  check(!loss || loss.numel() == 1, "adamw: loss: expected one element");
  int64_t elements = 0;
  for (const AdamWSegment& s : plan.segments) elements += s.end - s.begin;

  Tensor sum = empty({1}, Dtype::f64, b.p.device());
  {
    const profile::OpScope scope("sum_of_squares", 2.0 * double(b.g.numel()), double(b.g.bytes()));
    kernels::sum_of_squares(b.g.stream(), b.g, sum);
  }
  const double n = double(elements), buffers = settings.ema_decay > 0 ? 9 : 7;
  const double bytes = buffers * double(size_of(b.p.dtype())) + (b.bf16_values ? 2 : 0);
  const profile::OpScope scope("adamw", (settings.ema_decay > 0 ? 18 : 15) * n, bytes * n);
  kernels::adamw(b.p.stream(), b, plan, settings, control, loss, sum, outcome);
}

double sum_of_squares(const Tensor& g) {
  check(g.defined(), "sum_of_squares: g: missing");
  Tensor result = empty({1}, Dtype::f64, g.device());
  {
    const profile::OpScope scope("sum_of_squares", 2.0 * double(g.numel()), double(g.bytes()));
    kernels::sum_of_squares(g.stream(), g, result);
  }
  return result.item();
}

}  // namespace sg
