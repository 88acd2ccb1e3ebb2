#include "tools/common/timm.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "core/cpu/bf16_products.h"
#include "core/text.h"
#include "dist/launch.h"
#include "dist/launcher.h"

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
    {"--finetune", "--initial-checkpoint"},
    {"--load", "--initial-checkpoint"},
    {"--weights", "--checkpoint"},
    {"--weights", "--initial-checkpoint"},
    {"--model-path", "--checkpoint"},
    {"--ckpt", "--checkpoint"},
    {"--use-ema", "--ema"},
    {"--no-model-ema", "--model-ema-decay 0"},
    {"--no-amp", "--dtype f32"},
    {"--disable-amp", "--dtype f32"},
    {"--no-aa", "--aa none"},
    {"--no-mixup", "--mixup 0"},
    {"--no-cutmix", "--cutmix 0"},
    {"--repeated-aug", "--aug-repeats 3"},
    {"--no-repeated-aug", "--aug-repeats 0"},
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

std::string first_name(const TimmFlag& f) {
  const std::string_view all(f.flags);
  return std::string(all.substr(0, all.find(',')));
}

// "dist_bn", as files name it.
std::string key_of(const TimmFlag& f) {
  std::string key = first_name(f).substr(2);
  std::ranges::replace(key, '-', '_');
  return key;
}

// Hides the flags from --help. CLI11's own way, a group without a name, leaves their names out of
// its errors too.
constexpr const char* kHidden = "timm";
struct WithoutHidden : CLI::Formatter {
  std::string make_group(std::string group, bool positional,
                         std::vector<const CLI::Option*> options) const override {
    return group == kHidden ? "" : CLI::Formatter::make_group(group, positional, options);
  }
};

// A value as it would be typed.
std::string typed(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.dump();
  std::vector<std::string> words;
  for (const auto& v : value) words.push_back(typed(v));
  return fmt::format("{}", fmt::join(words, " "));
}

bool equal(std::string_view a, std::string_view b) {
  const auto x = parse_number(a), y = parse_number(b);  // 0.0 is 0
  const auto same_letter = [](unsigned char c, unsigned char d) {
    return std::tolower(c) == std::tolower(d);  // AdamW is adamw
  };
  return std::ranges::equal(a, b, same_letter) || (x && y && *x == *y);
}

bool accepts(const TimmFlag& f, std::string_view value) {
  std::string_view left = f.accepted;
  if (left == TimmFlag::kAny || left == TimmFlag::kAmp) return true;
  if (left == TimmFlag::kLocalRank) {
    const char* local_rank = std::getenv(TimmFlag::kLocalRank);
    return equal(local_rank ? local_rank : "0", value);
  }
  while (!left.empty()) {
    const size_t end = std::min(left.find('|'), left.size());
    if (equal(left.substr(0, end), value)) return true;
    left.remove_prefix(std::min(end + 1, left.size()));
  }
  return false;
}

[[noreturn]] void refuse(const GivenTimmFlag& given) {
  const std::string name = given.where + first_name(*given.flag), accepted = given.flag->accepted;
  if (accepted.empty()) fail(ExitCode::usage, "{}: {}", name, given.flag->meaning);
  fail(ExitCode::usage, "{}: expected {}, found '{}'; {}", name,
       fmt::join(CLI::detail::split(accepted, '|'), " or "), given.value, given.flag->meaning);
}

// What --amp does: bf16 is the default on cuda; on a CPU it is --dtype bf16 where the CPU
// multiplies bf16, or where --amp-dtype names it, and then parse_compute() says what is missing.
std::string apply_amp(const std::string& name, const std::string& device, bool named,
                      std::string& dtype) {
  if (dtype != "auto" && dtype != "bf16")
    fail(ExitCode::usage, "{} and --dtype {} contradict each other: give one of them", name, dtype);
  if (parse_usable_device(device).device.type == DeviceType::cuda)
    return "bf16 with float32 weights, which is the default here";
  if (dtype == "auto" && !named && !has_bf16_products())
    return "changes nothing: this CPU does not multiply bf16, and computes in float32";
  dtype = "bf16";
  return "--dtype bf16, with float32 weights";
}

// What a rank of our launcher would say, the launcher has said.
bool speaks() { return !dist::is_launched() && dist::launch_of_environment().rank == 0; }

// As the command line has it, else as the file does.
std::optional<GivenTimmFlag> find_given(const CLI::App& app,
                                        const std::vector<GivenTimmFlag>& of_file,
                                        const TimmFlag& f) {
  const CLI::Option* option = app.get_option_no_throw(first_name(f));
  if (option && option->count() > 0) {
    const auto words = option->reduced_results();
    if (f.takes == TimmFlag::Takes::nothing && words != std::vector<std::string>{"true"})
      fail(ExitCode::usage, "{}: expected no value, found '{}'; leave the flag out to not have it",
           first_name(f), fmt::join(words, " "));
    return GivenTimmFlag{&f, fmt::format("{}", fmt::join(words, " "))};
  }
  const auto found = std::ranges::find(of_file, &f, &GivenTimmFlag::flag);
  return found == of_file.end() ? std::nullopt : std::optional(*found);
}

// The keys of a file may have '-' or '_'.
nlohmann::json with_underscores(const nlohmann::json& config, std::string_view file) {
  nlohmann::json result = nlohmann::json::object();
  for (const auto& item : config.items()) {
    std::string key = item.key();
    std::ranges::replace(key, '-', '_');
    if (!result.emplace(key, item.value()).second)
      fail(ExitCode::usage, "{}: {} occurs twice, with '-' and with '_'; give it once", file, key);
  }
  return result;
}

// What train.py writes holds all of its arguments.
bool is_whole_args(const nlohmann::json& config) {
  return std::ranges::all_of(std::vector{"opt", "sched", "dist_bn", "model_ema"},
                             [&](const char* key) { return config.contains(key); });
}

// Keys that have our names and another meaning in timm, or defaults that are decided otherwise
// here.
void translate_whole_args(nlohmann::json& config) {
  config.erase("patience_epochs");  // of its plateau schedule
  if (config.value("aa", nlohmann::json()).is_null()) config["aa"] = "none";
  for (const auto& [key, usual] : {std::pair{"device", "cuda"}, {"lr_base_scale", ""}})
    if (config.contains(key) && config[key] == usual) config.erase(key);
  // timm writes it beside the lr that wins over it.
  if (!config.value("lr", nlohmann::json()).is_null() && config.contains("lr_base") &&
      config["lr_base"] == 0.1)
    config.erase("lr_base");
}

}  // namespace

std::string our_name(const CLI::App& app, std::string_view flag) {
  std::string dashed(flag);  // DeiT has --num_workers
  std::ranges::replace(dashed, '_', '-');
  for (const auto& [theirs, ours] : kOtherNames)
    if (theirs == dashed && app.get_option_no_throw(std::string(ours.substr(0, ours.find(' ')))))
      return std::string(ours);
  return "";
}

bool is_flag_of_torchrun(std::string_view flag) {
  constexpr std::string_view kFlags[] = {
      "--nnodes",     "--node-rank",  "--master-addr", "--master-port",
      "--standalone", "--no-python",  "--run-path",    "--start-method",
      "--role",       "--local-addr", "--redirects",   "--local-ranks-filter",
      "--tee",        "--use-env",    "--module",      "--monitor-interval"};
  std::string dashed(flag);  // both spellings are its own
  std::ranges::replace(dashed, '_', '-');
  return dashed.starts_with("--rdzv-") || std::ranges::find(kFlags, dashed) != std::end(kFlags);
}

void add_timm_flags(CLI::App& app, const std::vector<std::string_view>& only) {
  using enum TimmFlag::Takes;
  app.formatter(std::make_shared<WithoutHidden>());
  for (const TimmFlag& f : timm_flags()) {
    if (!only.empty() && std::ranges::find(only, first_name(f)) == only.end()) continue;
    const auto keep = [](const CLI::results_t&) { return true; };  // explain_timm_flags() reads it
    CLI::Option* option = app.add_option(f.flags, keep, f.meaning)->group(kHidden);
    option->type_name("VALUE");
    if (f.takes == nothing) option->expected(0);
    if (f.takes == value_or_nothing) option->expected(0, 1);
    if (f.takes == values) option->expected(1, 1 << 20);
    option->multi_option_policy(f.takes == values ? CLI::MultiOptionPolicy::TakeAll
                                                  : CLI::MultiOptionPolicy::TakeLast);
  }
}

std::vector<GivenTimmFlag> take_timm_keys(nlohmann::json& config, std::string_view file) {
  if (!config.is_object()) return {};
  config = with_underscores(config, file);
  if (is_whole_args(config)) translate_whole_args(config);
  if (config.contains("model_ema") && config["model_ema"] == false) config["model_ema_decay"] = 0.0;
  if (const auto size = config.find("input_size"); size != config.end()) {
    const nlohmann::json found = *size;
    config.erase(size);
    if (!found.is_null()) {
      if (!found.is_array() || found.size() != 3 || found[0] != 3)
        fail(ExitCode::usage, "{}: input_size: expected [3, HEIGHT, WIDTH], found {}", file,
             found.dump());
      config["img_size"] = {found[1], found[2]};
    }
  }
  std::vector<GivenTimmFlag> given;
  for (const TimmFlag& f : timm_flags()) {
    const auto found = config.find(key_of(f));
    if (found == config.end()) continue;
    const nlohmann::json value = *found;
    config.erase(found);
    if (value.is_null() || value == nlohmann::json::parse(f.usual)) continue;
    if (f.takes == TimmFlag::Takes::nothing && !value.is_boolean())
      fail(ExitCode::usage, "{}: {}: expected true or false, found {}", file, key_of(f),
           value.dump());
    given.push_back({&f, typed(value), fmt::format("{}: ", file)});
  }
  return given;
}

void explain_timm_flags(const CLI::App& app, const std::vector<GivenTimmFlag>& of_file,
                        const std::string& device, std::string& dtype) {
  std::vector<GivenTimmFlag> all;
  for (const TimmFlag& f : timm_flags())
    if (const auto given = find_given(app, of_file, f)) all.push_back(*given);
  const bool names_dtype = std::ranges::any_of(
      all, [](const GivenTimmFlag& given) { return first_name(*given.flag) == "--amp-dtype"; });
  for (const GivenTimmFlag& given : all) {
    const TimmFlag& f = *given.flag;
    if (!accepts(f, given.value)) refuse(given);
    const std::string name = first_name(f);
    const bool shows_value = f.takes != TimmFlag::Takes::nothing && !given.value.empty();
    const std::string meaning = std::string_view(f.accepted) == TimmFlag::kAmp
                                    ? apply_amp(name, device, names_dtype, dtype)
                                    : f.meaning;
    if (speaks())
      say(fmt::format("{}{}{}: {}", name, shows_value ? " " : "", shows_value ? given.value : "",
                      meaning));
  }
}

}  // namespace sg::tools
