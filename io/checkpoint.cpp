#include "io/checkpoint.h"

#include <algorithm>
#include <cmath>

#include "io/file_kind.h"
#include "io/hash.h"
#include "io/json.h"

namespace sg {
namespace {

constexpr const char* kVersionKey = "sgformer.checkpoint";
constexpr const char* kVersion = "1";
constexpr const char* kStateKey = "state";
constexpr const char* kChecksumKey = "xxh3";  // of all other metadata
std::string checksum_key(const std::string& tensor) { return "xxh3." + tensor; }

// Over name, dtype, shape and bytes: a header that gives a tensor another meaning is damage too.
std::string checksum(const std::string& name, const Tensor& tensor) {
  const std::string meaning =
      fmt::format("{}\n{}\n{}\n", name, name_of(tensor.dtype()), tensor.shape().str());
  Hash hash;
  hash.add(meaning.data(), meaning.size());
  hash.add(tensor.raw(), tensor.bytes());
  return hex(hash.digest());
}

std::string checksum(Metadata metadata) {
  metadata.erase(kChecksumKey);
  return hex(hash_of(nlohmann::json(metadata).dump()));
}

[[noreturn]] void damaged(const Safetensors& file, const std::string& what) {
  fail(ExitCode::checkpoint, "{}: {}; the file is damaged; take an earlier checkpoint",
       file.path().string(), what);
}

std::string value(const Metadata& metadata, const std::string& key) {
  const auto found = metadata.find(key);
  return found == metadata.end() ? "none" : found->second;
}

[[noreturn]] void not_ours(const std::filesystem::path& path) {
  fail(ExitCode::checkpoint,
       "{}: not a training checkpoint of version {}; to start from weights alone use "
       "--initial-checkpoint",
       path.string(), kVersion);
}

Safetensors open_file(const std::filesystem::path& path) {
  if (kind_of(path) != FileKind::safetensors) not_ours(path);
  return Safetensors::open(path);
}

nlohmann::json verified_state(const Safetensors& file) {
  const Metadata& metadata = file.metadata();
  if (!is_checkpoint(file)) not_ours(file.path());
  if (value(metadata, kChecksumKey) != checksum(metadata))
    damaged(file, fmt::format("header: expected checksum {}, found {}",
                              value(metadata, kChecksumKey), checksum(metadata)));
  nlohmann::json state = parse_json(value(metadata, kStateKey), file.path().string() + ": state",
                                    ExitCode::checkpoint);
  if (!state.is_object() || !state.contains("step") || !state["step"].is_number_integer())
    damaged(file, "state: expected an integer 'step'");
  return state;
}

Tensor verified_tensor(const Safetensors& file, const std::string& name) {
  const Tensor tensor = file.tensor(name);
  const std::string expected = value(file.metadata(), checksum_key(name));
  if (const std::string found = checksum(name, tensor); found != expected)
    damaged(file,
            fmt::format("tensor '{}': expected checksum {}, found {}", name, expected, found));
  return tensor;
}

// Reads all, keeps what `keep` takes.
template <class F>
nlohmann::json verify(const Safetensors& file, F&& keep) {
  nlohmann::json state = verified_state(file);
  for (const std::string& name : file.names()) keep(name, verified_tensor(file, name));
  for (const auto& [key, sum] : file.metadata())
    if (key.starts_with(checksum_key("")) && !file.contains(key.substr(checksum_key("").size())))
      damaged(file, fmt::format("tensor '{}' is missing", key.substr(checksum_key("").size())));
  return state;
}

bool is_in(const std::string& name, std::string_view prefix) {
  if (!prefix.empty()) return name.starts_with(prefix);
  return !name.starts_with(kEma) && !name.starts_with(kMoment1) && !name.starts_with(kMoment2);
}

}  // namespace

std::vector<NamedTensor> part(const std::vector<NamedTensor>& tensors, std::string_view prefix) {
  std::vector<NamedTensor> result;
  for (const auto& [name, tensor] : tensors)
    if (is_in(name, prefix)) result.emplace_back(name.substr(prefix.size()), tensor);
  return result;
}

std::vector<NamedTensor> prefixed(std::string_view prefix, std::vector<NamedTensor> tensors) {
  for (NamedTensor& t : tensors) t.first.insert(0, prefix);
  return tensors;
}

std::string first_not_finite(const std::vector<NamedTensor>& tensors) {
  const auto finite = [](double v) { return std::isfinite(v); };
  for (const auto& [name, tensor] : tensors) {
    const bool all = tensor.dtype() == Dtype::f32
                         ? std::ranges::all_of(tensor.span<float>(), finite)
                         : std::ranges::all_of(to_vector<double>(tensor.to(Dtype::f64)), finite);
    if (!all) return name;
  }
  return "";
}

void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  Metadata metadata{{"format", "pt"}, {kVersionKey, kVersion}};
  // A path in the configuration need not be UTF-8; its odd bytes are replaced.
  metadata[kStateKey] =
      checkpoint.state.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  for (const auto& [name, tensor] : checkpoint.tensors) {
    check(tensor.defined() && tensor.device() == Device{},
          "save_checkpoint: tensor '{}' must be on the CPU", name);
    metadata[checksum_key(name)] = checksum(name, tensor);
  }
  metadata[kChecksumKey] = checksum(metadata);
  AtomicFile file(path, ExitCode::checkpoint);
  write_safetensors([&](const void* data, size_t bytes) { file.write(data, bytes); },
                    checkpoint.tensors, metadata);
  file.commit([](const std::filesystem::path& written) {
    verify(Safetensors::open(written), [](const std::string&, const Tensor&) {});
  });
}

Checkpoint load_checkpoint(const std::filesystem::path& path) {
  Checkpoint checkpoint;
  checkpoint.state = verify(open_file(path), [&](const std::string& name, Tensor tensor) {
    checkpoint.tensors.emplace_back(name, std::move(tensor));
  });
  return checkpoint;
}

std::vector<NamedTensor> load_part(const std::filesystem::path& path, std::string_view prefix) {
  const Safetensors file = open_file(path);
  verified_state(file);
  std::vector<NamedTensor> result;
  for (const std::string& name : file.names())
    if (is_in(name, prefix))
      result.emplace_back(name.substr(prefix.size()), verified_tensor(file, name));
    else if (prefix == kEma && is_in(name, "") && !file.contains(std::string(kEma) + name))
      result.emplace_back(name, verified_tensor(file, name));
  return result;
}

nlohmann::json checkpoint_state(const std::filesystem::path& path) {
  return verified_state(open_file(path));
}

bool is_checkpoint(const Safetensors& file) {
  return value(file.metadata(), kVersionKey) == kVersion;
}

bool is_checkpoint(const std::filesystem::path& path) {
  return kind_of(path) == FileKind::safetensors && is_checkpoint(Safetensors::open(path));
}

}  // namespace sg
