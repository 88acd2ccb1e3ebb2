// sgconvert: weights from any file that is read, to one that other programs read.
#include <fmt/core.h>

#include <filesystem>
#include <map>

#include "core/text.h"
#include "io/checkpoint.h"
#include "io/pth_write.h"
#include "nn/state.h"
#include "sgformer/weight_copies.h"
#include "sgformer/weights.h"
#include "tools/common/announce.h"
#include "tools/common/cli.h"

namespace {

namespace fs = std::filesystem;

struct Request {
  std::string in, out, format, dtype = "f32", model;
  std::optional<bool> ema;
  bool force = false;
};

// "safetensors" or "pth"
std::string format_of(const Request& r) {
  if (!r.format.empty()) return r.format;
  const std::string ending = fs::path(r.out).extension().string();
  if (ending == ".safetensors") return "safetensors";
  if (ending == ".pth" || ending == ".pt" || ending == ".ckpt" || ending == ".bin") return "pth";
  sg::fail(sg::ExitCode::usage,
           "{}: its ending says no format; expected .safetensors or .pth, or say it by --format",
           r.out);
}

sg::StoredType type_of(const std::string& dtype) {
  if (dtype == "f16") return sg::StoredType::f16;
  return dtype == "bf16" ? sg::StoredType::bf16 : sg::StoredType::f32;
}

template <class Model>
std::vector<sg::NamedTensor> tensors_of(const sg::infer::LoadedModel<Model>& file) {
  sg::tools::announce(file);
  return sg::nn::state_of(file.model->parameters());
}

// Under the official names. Where the file or --model says which model it is, they are all of it.
std::vector<sg::NamedTensor> read(const Request& r) {
  if (r.model.empty() && !sg::is_checkpoint(r.in)) {
    sg::sgformer::Weights weights = sg::sgformer::load_weights(r.in, r.ema);
    sg::tools::say(weights.summary);
    for (const auto& [name, tensor] : weights.tensors)
      if (!sg::sgformer::is_official_name(name))
        sg::tools::say(
            fmt::format("warning: '{}' is in no published model, and is written all the same",
                        sg::printable(name)));
    return std::move(weights.tensors);
  }
  const sg::infer::ModelFileRequest request{.ema = r.ema, .model = r.model};
  const std::string task = sg::infer::task_of(r.in);
  if (task == sg::infer::kDetection) return tensors_of(sg::infer::load_detector(r.in, request));
  return task == sg::infer::kSegmentation ? tensors_of(sg::infer::load_segmentor(r.in, request))
                                          : tensors_of(sg::infer::load_model(r.in, request));
}

// A file that holds no weights at all is none either.
bool is_run_checkpoint(const fs::path& path) {
  try {
    return fs::exists(path) && sg::is_checkpoint(path);
  } catch (const sg::Error&) {
    return false;
  }
}

void check_absent(const Request& r) {
  if (fs::is_directory(r.out))
    sg::fail(sg::ExitCode::usage, "{}: expected the name of a file, found a folder", r.out);
  if (!r.force && fs::exists(fs::symlink_status(r.out)))
    sg::fail(sg::ExitCode::usage, "{}: is there already; choose another name, or --force", r.out);
  if (r.force && is_run_checkpoint(r.out))
    sg::fail(sg::ExitCode::usage,
             "{}: is a checkpoint of sgtrain, from which a run can go on; choose another name",
             r.out);
}

// Throws unless the written file holds the same bits.
void verify(const fs::path& written, const std::vector<sg::NamedTensor>& tensors,
            sg::StoredType type) {
  const sg::sgformer::Weights back = sg::sgformer::load_weights(written);
  std::map<std::string, sg::Tensor> found(back.tensors.begin(), back.tensors.end());
  for (const auto& [name, tensor] : tensors) {
    const sg::StoredType stored = sg::stored_type(tensor.dtype(), type);
    if (!found.contains(name) || found[name].shape() != tensor.shape() ||
        encode(name, found[name], stored) != encode(name, tensor, stored))
      sg::fail(sg::ExitCode::checkpoint, "{}: tensor '{}' was not written as it is; try again",
               written.string(), name);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return sg::tools::run([&] {
    CLI::App app(
        "Writes the weights of a file alone, under the official names and in their layouts, as "
        "safetensors or as a file of torch.save. It reads what the other programs read: "
        "checkpoints of sgtrain, safetensors, and files of PyTorch in the wrappings of timm, "
        "torchvision, Lightning and others.");
    Request r;
    app.add_option("in", r.in, "weights to read: a file, or a run's folder")->required();
    app.add_option("out", r.out, "file to write: .safetensors or .pth")->required();
    sg::tools::add_ema_flags(app, r.ema);
    app.add_option("--format", r.format, "safetensors or pth; default: by the ending of the file")
        ->check(CLI::IsMember({"safetensors", "pth"}));
    app.add_option("--dtype", r.dtype, "of the numbers: f32, bf16 or f16")
        ->check(CLI::IsMember({"f32", "bf16", "f16"}))
        ->capture_default_str();
    app.add_option("--model", r.model,
                   "what model they are of: then all its weights have to be there, and no others");
    app.add_flag("--force", r.force,
                 "write over a file that is there, but a checkpoint of sgtrain");
    sg::tools::parse(app, argc, argv);

    const std::string format = format_of(r);
    const sg::StoredType type = type_of(r.dtype);
    check_absent(r);
    r.in = sg::infer::find_weights(r.in).string();
    const std::vector<sg::NamedTensor> tensors = read(r);
    sg::AtomicFile file(r.out, sg::ExitCode::checkpoint);
    const auto sink = [&](const void* data, size_t bytes) { file.write(data, bytes); };
    if (format == "pth")
      sg::write_pth(sink, tensors, type);
    else
      sg::write_safetensors(sink, tensors, {{"format", "pt"}}, type);
    file.commit([&](const fs::path& written) {
      verify(written, tensors, type);
      check_absent(r);  // it may have appeared meanwhile
    });
    int64_t numbers = 0;
    for (const auto& [name, tensor] : tensors) numbers += tensor.numel();
    fmt::print("{}: {} tensors of {} numbers, {}, {} bytes\n", sg::escape_odd_bytes(r.out),
               tensors.size(), numbers, r.dtype, fs::file_size(r.out));
    return sg::ExitCode::ok;
  });
}
