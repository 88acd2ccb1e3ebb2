#include "train/options.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <type_traits>
#include <vector>

#include "core/cpu/cores.h"
#include "core/error.h"
#include "core/text.h"
#include "data/listing_cache.h"
#include "io/json.h"
#include "nn/gradient_slices.h"
#include "train/gradient_reducer.h"
#include "train/option_table.h"

namespace sg::train {
namespace {

std::string key_of(std::string_view name) {
  std::string key(name);
  std::replace(key.begin(), key.end(), '-', '_');
  return key;
}

// The keys by which a file names the option: those of all its long flags.
std::vector<std::string> keys_of(const OptionInfo& info) {
  std::vector<std::string> keys;
  const std::string_view all(info.flags);
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find(',', begin), all.size());
    const std::string_view name = all.substr(begin, end - begin);
    if (name.starts_with("--")) keys.push_back(key_of(name.substr(2)));
    begin = end + 1;
  }
  return keys;
}

template <class T>
constexpr bool kOptional = false;
template <class T>
constexpr bool kOptional<std::optional<T>> = true;

// Whether a change of it is a change of the run.
bool counts(const OptionInfo& info) {
  return info.on_resume == OnResume::fixed || info.on_resume == OnResume::noted;
}

// Calls f on each number that a value consists of.
template <class V, class F>
void each_number(const V& value, F&& f) {
  if constexpr (kOptional<V>) {
    if (value) each_number(*value, f);
  } else if constexpr (std::is_same_v<V, ImageSize>) {
    f(double(value.height)), f(double(value.width));
  } else if constexpr (std::is_same_v<V, Pair> || std::is_same_v<V, Triple>) {
    for (double v : value) f(v);
  } else if constexpr (std::is_same_v<V, int64_t> || std::is_same_v<V, double>) {
    f(double(value));
  }
}

data::Rgb byte_mean(const Triple& mean) {  // Python's round: half to even
  data::Rgb rgb;
  for (size_t c = 0; c < 3; ++c)
    rgb[c] = uint8_t(std::clamp(std::nearbyint(255 * mean[c]), 0.0, 255.0));
  return rgb;
}

// As args.json has it: paths are bytes, JSON is UTF-8.
template <class V>
nlohmann::json value_to_json(const V& value) {
  if constexpr (std::is_same_v<V, ImageSize>)
    return image_size_to_json(value);
  else if constexpr (std::is_same_v<V, std::string>)
    return escape_name(value);
  else
    return value;
}

template <class V>
void from_json(const nlohmann::json& json, V& value) {
  if constexpr (kOptional<V>) {
    typename V::value_type inner;
    from_json(json, inner);
    value = inner;
  } else if constexpr (std::is_same_v<V, ImageSize>) {
    const auto size = image_size_from_json(json);
    if (!size) throw std::invalid_argument("a number or \"height width\"");
    value = *size;
  } else if constexpr (std::is_same_v<V, int64_t>) {
    // timm writes some counts as 3.0.
    const bool whole = json.is_number_float() && std::abs(json.get<double>()) < 0x1p53 &&
                       std::trunc(json.get<double>()) == json.get<double>();
    if (!whole && !json.is_number_integer()) throw std::invalid_argument("a whole number");
    json.get_to(value);
  } else if constexpr (std::is_same_v<V, double>) {
    if (!json.is_number()) throw std::invalid_argument("a number");
    json.get_to(value);
  } else if constexpr (std::is_same_v<V, bool>) {
    if (!json.is_boolean()) throw std::invalid_argument("true or false");
    json.get_to(value);
  } else if constexpr (std::is_same_v<V, std::string>) {
    if (!json.is_string()) throw std::invalid_argument("a text");
    value = unescape_name(json.get<std::string>());
  } else {
    const bool fits = json.is_array() && json.size() == value.size() &&
                      std::ranges::all_of(json, [](const auto& v) { return v.is_number(); });
    if (!fits) throw std::invalid_argument(fmt::format("{} numbers", value.size()));
    json.get_to(value);
  }
}

}  // namespace

std::string range_of(const OptionInfo& info) {
  if (info.high == INFINITY) return fmt::format("at least {}", info.low);
  if (info.high == std::nextafter(1, 0)) return fmt::format("from {} to less than 1", info.low);
  return fmt::format("from {} to {}", info.low, info.high);
}

nlohmann::json to_json(const Options& options) {
  nlohmann::json json = nlohmann::json::object();
  each_option(options, [&](const OptionInfo& info, const auto& value) {
    using V = std::decay_t<decltype(value)>;
    const std::string key = key_of(info.name());
    if constexpr (kOptional<V>) {
      if (value) json[key] = value_to_json(*value);
    } else {
      json[key] = value_to_json(value);
    }
  });
  return json;
}

nlohmann::json without_start_options(nlohmann::json json) {
  each_option(static_cast<const Options&>(Options()), [&](const OptionInfo& info, const auto&) {
    if (info.on_resume == OnResume::not_kept) json.erase(key_of(info.name()));
  });
  return json;
}

std::vector<std::string> without_start_options(const std::vector<std::string>& command) {
  std::vector<std::string> kept;
  for (size_t i = 0; i < command.size(); ++i) {
    const std::string flag = command[i].substr(0, command[i].find('='));
    bool keep = true, takes_next = false;
    each_option(static_cast<const Options&>(Options()), [&](const OptionInfo& info, const auto& v) {
      if (info.on_resume != OnResume::not_kept) return;
      if (fmt::format(",{},", info.flags).find(fmt::format(",{},", flag)) == std::string::npos)
        return;
      keep = false;
      takes_next = !std::is_same_v<std::decay_t<decltype(v)>, bool> && flag == command[i];
    });
    if (keep) kept.push_back(command[i]);
    i += takes_next;
  }
  return kept;
}

nlohmann::json args_json(const Options& given, const nlohmann::json& used) {
  nlohmann::json args = without_start_options(to_json(given));
  nlohmann::json resolved = nlohmann::json::object();
  for (const auto& [key, value] : used.items())
    if (!args.contains(key) || args[key] != value) resolved[key] = value;
  args["resolved"] = resolved;
  return args;
}

std::vector<report::Setting> settings(const Options& used, const Options& given,
                                      const Options& usual) {
  const nlohmann::json values = to_json(used), set = to_json(given), recipe = to_json(usual);
  std::vector<report::Setting> rows;
  each_option(used, [&](const OptionInfo& info, const auto&) {
    const std::string key = key_of(info.name());
    const nlohmann::json value = values.value(key, nlohmann::json());
    if (value.is_null() || value == "") return;
    rows.push_back({.name = std::string(info.name()),
                    .value = value.is_string() ? value.template get<std::string>() : value.dump(),
                    .help = info.help,
                    .changed = counts(info) && set.contains(key) &&
                               recipe.value(key, nlohmann::json()) != set[key]});
  });
  return rows;
}

void apply_json(Options& options, const nlohmann::json& json, std::string_view file) {
  if (!json.is_object())
    fail(ExitCode::usage, "{}: expected options, such as 'lr: 1e-3' a line, found {}", file,
         json.is_null() ? "nothing" : json.type_name());
  // Keys that args.json has besides: the version of the program, and what is for people.
  std::vector<std::string> known{"version", "resolved"};
  each_option(options, [&](const OptionInfo& info, auto&) {
    std::ranges::copy(keys_of(info), std::back_inserter(known));
  });
  std::map<std::string_view, std::string> names;  // by which an option was given
  for (const auto& item : json.items()) {
    const std::string &name = item.key(), key = key_of(name);
    const nlohmann::json& given = item.value();
    if (std::ranges::find(known, key) == known.end())
      fail(ExitCode::usage, "{}: '{}' is not an option{}", file, name, did_you_mean(key, known));
    each_option(options, [&](const OptionInfo& info, auto& value) {
      const std::vector<std::string> keys = keys_of(info);
      if (given.is_null() || std::ranges::find(keys, key) == keys.end()) return;
      if (const auto [other, first] = names.emplace(info.name(), name); !first)
        fail(ExitCode::usage, "{}: '{}' and '{}' are the same option; give one", file,
             other->second, name);
      try {
        from_json(given, value);
      } catch (const std::invalid_argument& e) {
        fail(ExitCode::usage, "{}: {}: expected {}, found {}", file, name, e.what(), given.dump());
      }
    });
  }
}

void check_range(const OptionInfo& info, double value) {
  if (!(value >= info.low && value <= info.high))
    fail(ExitCode::usage, "--{}: expected {}, found {}", info.name(), range_of(info), value);
}

void check_ranges(const Options& o) {
  each_option(o, [](const OptionInfo& info, const auto& value) {
    each_number(value, [&](double v) { check_range(info, v); });
  });
}

void validate(const Options& o) {
  check_ranges(o);
  if (o.data.empty()) fail(ExitCode::usage, "--data: the folder of the images is missing");
  if (const int64_t warmup = o.warmup_epochs.value_or(0);
      warmup >= o.epochs && warmup > 0 && !o.warmup_prefix)
    fail(ExitCode::usage, "--warmup-epochs: expected fewer than the {} --epochs, found {}",
         o.epochs, warmup);
  peak_learning_rate(o);
  if (o.resume == "auto" && o.output.empty() && o.experiment.empty())
    fail(ExitCode::usage,
         "--resume auto: --output is missing, the folder of the run that begins or goes on");
  if (o.no_resume_opt && o.resume.empty())
    fail(ExitCode::usage, "--no-resume-opt: of --resume, which is missing");
  if (o.resume == "auto" && (o.no_resume_opt || o.start_epoch))
    fail(ExitCode::usage,
         "--{}: --resume auto would do it again in every start; give --resume a checkpoint",
         o.no_resume_opt ? "no-resume-opt" : "start-epoch");
  if (o.start_epoch && !o.steps && *o.start_epoch >= total_epochs(o))
    fail(ExitCode::usage, "--start-epoch: expected less than the {} epochs of the run, found {}",
         total_epochs(o), *o.start_epoch);
  if (o.model_ema_warmup && o.model_ema_decay == 0.0)
    fail(ExitCode::usage, "--model-ema-warmup and --model-ema-decay 0 contradict each other");
  if (o.ema && o.no_ema) fail(ExitCode::usage, "--ema and --no-ema: give one");
  if ((o.ema || o.no_ema) && o.initial_checkpoint.empty())
    fail(ExitCode::usage, "--{}: chooses weights of --initial-checkpoint, which is missing",
         o.ema ? "ema" : "no-ema");
  parse_compute(o.device, o.dtype);
  const bool fixed = parse_reduce_order(o.reduce_order) == ReduceOrder::fixed;
  if (dist::parse_wire(o.reduce_dtype) == dist::Wire::bf16 && fixed)
    fail(ExitCode::usage, "--reduce-order fixed sends f32; leave out --reduce-dtype bf16");
  if (fixed && o.ranks > 1 && !std::has_single_bit(uint64_t(o.grad_accum)))
    fail(ExitCode::usage,
         "--reduce-order fixed: of several processes, --grad-accum is to be a power of two, found "
         "{}",
         o.grad_accum);
  group_settings(o);
  optimizer_settings(o);
}

sgformer::Config apply(const Options& o, sgformer::Config c) {
  if (!o.guidance.empty()) c.guidance = sgformer::parse_guidance(o.guidance);
  if (!o.scales.empty()) sgformer::set_scales(c, o.scales);
  if (!o.regions.empty()) sgformer::set_regions(c, o.regions);
  c.balance_significance |= o.balance_significance;
  c.recompute |= o.grad_checkpointing;
  c.drop_path = o.drop_path.value_or(c.drop_path);
  c.classes = o.num_classes.value_or(c.classes);
  return c;
}

sgformer::Config model_config(const Options& o) { return apply(o, sgformer::find_config(o.model)); }

data::TransformConfig transforms(const Options& o) {
  data::TransformConfig t;
  t.img_size = o.img_size.value_or(int(sgformer::find_config(o.model).image));
  t.scale = o.scale, t.ratio = o.ratio, t.hflip = o.hflip, t.vflip = o.vflip;
  t.interpolation = data::parse_interpolation(o.train_interpolation);
  t.color_jitter = o.color_jitter, t.color_jitter_prob = o.color_jitter_prob;
  t.grayscale_prob = o.grayscale_prob, t.no_aug = o.no_aug;
  if (!o.aa.empty() && o.aa != "none") {
    t.rand_augment = data::parse_rand_augment(o.aa);
    t.rand_augment->fill = byte_mean(o.mean);
    if (t.interpolation != data::Interpolation::random)
      t.rand_augment->filter = t.interpolation == data::Interpolation::bicubic
                                   ? data::Filter::bicubic
                                   : data::Filter::bilinear;
  }
  t.crop_pct = o.crop_pct.value_or(sgformer::default_crop_pct(o.model));
  return t;
}

ChannelStats channel_stats(const Options& o) { return {o.mean, o.std}; }

int64_t images_a_step(const Options& o) { return o.batch_size * o.grad_accum * o.ranks; }

int64_t slice_elements(const Options& o) {
  if (!o.bucket_cap_mb) return nn::kSliceElements;
  return std::max<int64_t>(1, int64_t(*o.bucket_cap_mb * 1e6 / sizeof(float)));
}

double peak_learning_rate(const Options& o) {
  if (o.lr_base_scale != "sqrt" && o.lr_base_scale != "linear")
    fail(ExitCode::usage, "--lr-base-scale: expected sqrt or linear, found '{}'", o.lr_base_scale);
  if (o.lr) return *o.lr;
  if (!o.lr_base) return o.model == kNano ? 2e-3 : 1e-3;
  const double ratio = double(images_a_step(o)) / double(o.lr_base_size);
  return *o.lr_base * (o.lr_base_scale == "sqrt" ? std::sqrt(ratio) : ratio);
}

int64_t warmup_epochs(const Options& o) {
  if (o.warmup_epochs) return *o.warmup_epochs;
  const int64_t usual = o.model == kNano ? 0 : 20, of = Options().epochs;
  if (usual < o.epochs) return usual;
  return std::min(o.epochs - 1, std::max<int64_t>(1, (o.epochs * usual + of / 2) / of));
}

CosineSchedule cosine_schedule(const Options& o, int64_t epoch_steps) {
  return {.epochs = int(o.epochs),
          .warmup_epochs = int(warmup_epochs(o)),
          .cooldown_epochs = int(o.cooldown_epochs),
          .lr = peak_learning_rate(o),
          .min_lr = o.min_lr,
          .warmup_lr = o.warmup_lr,
          .epoch_steps = o.sched_on_updates ? epoch_steps : 0,
          .warmup_prefix = o.warmup_prefix};
}

int64_t total_epochs(const Options& o) { return cosine_schedule(o, 0).total_epochs(); }

AdamWSettings optimizer_settings(const Options& o) {
  return {.beta1 = o.opt_betas[0],
          .beta2 = o.opt_betas[1],
          .eps = o.opt_eps,
          .weight_decay = o.weight_decay,
          .ema_decay = o.model_ema_decay.value_or(0),
          .clip_grad = o.clip_grad,
          .clip_mode = parse_clip_mode(o.clip_mode)};
}

int64_t loading_threads(const Options& o) {
  return o.workers.value_or(std::clamp(usable_cores().usable, 2, 8));
}

sgformer::GroupSettings group_settings(const Options& o) {
  return {o.layer_decay, sgformer::parse_frozen_stages(o.freeze)};
}

std::optional<bool> initial_ema(const Options& o) {
  return o.ema || o.no_ema ? std::optional(o.ema) : std::nullopt;
}

data::DatasetRequest dataset_request(const Options& o) {
  data::DatasetRequest r;
  r.order = data::parse_class_order(o.class_order);
  if (!o.class_map.empty()) r.classes = data::read_class_map(o.class_map);
  r.train_split = o.train_split, r.val_split = o.val_split;
  r.val_share = o.val_share, r.seed = uint64_t(o.seed);
  if (!o.no_listing_cache) r.cache = data::listing_cache_folder();
  return r;
}

data::ClassNames known_classes(const Options& o, const data::ClassNames& of_checkpoint) {
  if (o.class_map.empty()) return of_checkpoint;
  const data::ClassNames map = data::read_class_map(o.class_map);
  if (!of_checkpoint.empty() && map != of_checkpoint)
    fail(ExitCode::usage,
         "--class-map: the checkpoint knows its classes, and they are not those of {}; leave the "
         "flag out",
         o.class_map);
  return map;
}

data::ClassTitles class_titles(const Options& o) {
  if (!o.class_names.empty()) return data::read_class_titles(o.class_names);
  return data::find_class_titles(o.data);
}

OptionChanges changes(const nlohmann::json& before, const nlohmann::json& now) {
  OptionChanges result;
  const nlohmann::json usual = to_json(Options());
  const auto text = [&](const nlohmann::json& json, const std::string& key) {
    const nlohmann::json& from = json.contains(key) ? json : usual;
    return from.contains(key) ? from[key].dump() : std::string("unset");
  };
  each_option(static_cast<const Options&>(Options()), [&](const OptionInfo& info, const auto&) {
    const std::string key = key_of(info.name()), a = text(before, key), b = text(now, key);
    if (a == b || !counts(info)) return;
    std::string& table = info.on_resume == OnResume::fixed ? result.refused : result.noted;
    table += fmt::format("  {:<22} {} -> {}\n", key, a, b);
  });
  return result;
}

}  // namespace sg::train
