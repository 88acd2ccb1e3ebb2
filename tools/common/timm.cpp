#include "tools/common/timm.h"

#include <algorithm>

#include "core/text.h"

namespace sg::tools {
namespace {

struct OtherName {
  std::string_view theirs, ours;
};
constexpr OtherName kOtherNames[] = {
    {"--wd", "--weight-decay"},
    {"--learning-rate", "--lr"},
    {"--base-lr", "--lr-base"},
    {"--blr", "--lr-base"},
    {"--lr-min", "--min-lr"},
    {"--lr-warmup", "--warmup-lr"},
    {"--warmup-lr-init", "--warmup-lr"},
    {"--num-epochs", "--epochs"},
    {"--max-epochs", "--epochs"},
    {"--warmup", "--warmup-epochs"},
    {"--cooldown", "--cooldown-epochs"},
    {"--accum-iter", "--grad-accum"},
    {"--accumulation-steps", "--grad-accum"},
    {"--gradient-accumulation-steps", "--grad-accum"},
    {"--update-freq", "--grad-accum"},
    {"--max-norm", "--clip-grad"},
    {"--max-grad-norm", "--clip-grad"},
    {"--drop-path-rate", "--drop-path"},
    {"--label-smoothing", "--smoothing"},
    {"--ema-decay", "--model-ema-decay"},
    {"--ld", "--layer-decay"},
    {"--layer-decay-rate", "--layer-decay"},
    {"--crop-ratio", "--crop-pct"},
    {"--nb-classes", "--num-classes"},
    {"--classes", "--num-classes"},
    {"--arch", "--model"},
    {"--image-size", "--img-size"},
    {"--imgsz", "--img-size"},
    {"--resolution", "--img-size"},
    {"--pretrained", "--initial-checkpoint"},
    {"--pretrained-path", "--initial-checkpoint"},
    {"--finetune", "--initial-checkpoint"},
    {"--load", "--initial-checkpoint"},
    {"--weights", "--checkpoint"},
    {"--weights", "--initial-checkpoint"},
    {"--model-path", "--checkpoint"},
    {"--ckpt", "--checkpoint"},
    {"--use-ema", "--ema"},
    {"--root", "--data"},
    {"--dataset", "--data"},
    {"--data-root", "--data"},
    {"--save-dir", "--output"},
    {"--output-dir", "--output"},
    {"--out-dir", "--output"},
    {"--log-dir", "--output"},
    {"--work-dir", "--output"},
    {"--run-name", "--experiment"},
    {"--tag", "--experiment"},
    {"--num-workers", "--workers"},
    {"--num-threads", "--threads"},
    {"--gpu", "--device"},
    {"--gpus", "--device"},
    {"--gpu-id", "--device"},
    {"--precision", "--dtype"},
    {"--amp-dtype", "--dtype"},
    {"--fp16", "--dtype"},
    {"--bf16", "--dtype"},
    {"--print-freq", "--log-interval"},
    {"--use-checkpoint", "--grad-checkpointing"},
    {"--gradient-checkpointing", "--grad-checkpointing"},
    {"--cfg", "--config"},
};

struct Switch {
  const char* flag;
  const char* value;  // the only one, of a flag that takes one
  const char* meaning;
};
constexpr Switch kSwitches[] = {
    {"--amp", nullptr, "mixed precision is the default on a GPU (--dtype)"},
    {"--native-amp", nullptr, "mixed precision is the default on a GPU (--dtype)"},
    {"--channels-last", nullptr, "images and activations are always channels last"},
    {"--pin-mem", nullptr, "batches for a GPU are always in pinned memory"},
    {"--model-ema", nullptr, "the weights are always averaged (--model-ema-decay)"},
    {"--opt", "adamw", "the optimizer is always AdamW"},
    {"--sched", "cosine", "the learning rate always follows a cosine"},
};

}  // namespace

std::string our_name(const CLI::App& app, std::string_view flag) {
  for (const auto& [theirs, ours] : kOtherNames)
    if (theirs == flag && app.get_option_no_throw(std::string(ours))) return std::string(ours);
  return "";
}

void add_timm_switches(CLI::App& app, const std::vector<std::string_view>& flags) {
  for (const Switch& s : kSwitches) {
    if (std::ranges::find(flags, s.flag) == flags.end()) continue;
    CLI::Option* option = nullptr;
    if (!s.value) {
      option = app.add_flag(s.flag, s.meaning);
    } else {
      option = app.add_option(
          s.flag,
          [&s](const CLI::results_t& given) {
            if (given[0] != s.value)
              fail(ExitCode::usage, "{}: expected {}, found '{}'; {}", s.flag, s.value, given[0],
                   s.meaning);
            return true;
          },
          s.meaning);
      option->type_name("TEXT")->default_str(s.value);
      option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    }
    option->group("Of timm, for what is always so");
  }
}

void explain_timm_switches(const CLI::App& app, const std::string& device,
                           const std::string& dtype) {
  for (const Switch& s : kSwitches) {
    const CLI::Option* option = app.get_option_no_throw(s.flag);
    if (!option || option->count() == 0) continue;
    const std::string_view flag = s.flag;
    std::string meaning = s.meaning;
    if (flag == "--amp" || flag == "--native-amp") {
      const Compute compute = parse_compute(device, dtype);
      const bool mixed = compute.dtype == Dtype::bf16;
      if (compute.device.type == DeviceType::cuda && !mixed)
        fail(ExitCode::usage, "{} and --dtype {} contradict each other: give one of them", flag,
             dtype);
      meaning = mixed ? "bf16 with float32 weights, which is the default here"
                      : "changes nothing: the cpu computes in float32";
    }
    say(fmt::format("{}{}{}: {}", flag, s.value ? " " : "", s.value ? s.value : "", meaning));
  }
}

}  // namespace sg::tools
