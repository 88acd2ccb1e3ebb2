// The flags of timm 1.0's train.py, and of the older one that the official main.py grew from, that
// are no options of ours. docs/timm.md has the whole list.
#include "tools/common/timm.h"

namespace sg::tools {
namespace {

using enum TimmFlag::Takes;
constexpr const char* kAny = TimmFlag::kAny;
constexpr const char* kNone = TimmFlag::kNone;

constexpr const char* kBatchNorm =
    "classifiers have no BatchNorm; that of segmentation heads has momentum 0.1, eps 1e-5 and the "
    "statistics of all processes";
constexpr const char* kOtherSchedule = "of schedules that are not built in";
constexpr const char* kNoDownload =
    "data sets are not downloaded: --data is a folder, docs/data.md says of what";
constexpr const char* kNoWandb =
    "Weights & Biases is not built in: the run's folder has TensorBoard events and metrics.jsonl";
constexpr const char* kNoDistillation = "there is no distillation from a teacher";
constexpr const char* kNoNaflex =
    "images of a batch have one size here: --img-size HEIGHT WIDTH, of any shape";
constexpr const char* kNoCompiler = "operations are compiled ahead, and a step is one CUDA graph";
constexpr const char* kMixedPrecision = "mixed precision is the default on a GPU";
constexpr const char* kNoSplits = "there are no augmentation splits";

constexpr TimmFlag kFlags[] = {
    // Data
    {"--dataset", value, "folder|imagefolder", "\"\"", kNoDownload},
    {"--train-num-samples", value, kNone, "null", "all images count; --max-steps ends a run early"},
    {"--val-num-samples", value, kNone, "null", "all images of --val-split count"},
    {"--dataset-download", nothing, kNone, "false", kNoDownload},
    {"--dataset-trust-remote-code", nothing, kNone, "false", kNoDownload},
    {"--input-img-mode", value, "RGB", "null", "images are always RGB"},
    {"--input-key", value, kNone, "null", kNoDownload},
    {"--target-key", value, kNone, "null", kNoDownload},
    {"--in-chans", value, "3", "null", "images are always RGB"},
    {"--interpolation", value, "bicubic", "\"\"",
     "evaluation is always bicubic, as published, of segmentation bilinear; --train-interpolation "
     "is "
     "of training"},
    {"--train-crop-mode", value, "rrc", "null", "crops of training are RandomResizedCrop"},
    {"--gaussian-blur-prob", value, kNone, "null", "not built in; --aa has Sharpness"},
    {"--aug-splits", value, "0", "0", kNoSplits},
    {"--resplit", nothing, kAny, "false", kNoSplits},
    {"--epoch-repeats", value, "0", "0", "an epoch is the data once: raise --epochs"},
    {"--no-prefetcher", nothing, kAny, "false",
     "batches are prefetched, mixed as bytes and erased after normalising in any case"},
    {"--use-multi-epochs-loader", nothing, kAny, "false", "loading threads live for the whole run"},
    {"--worker-seeding", value, kAny, "\"all\"",
     "what is drawn depends on --seed, epoch and image, not on the thread that loads it"},
    {"--pin-mem", nothing, kAny, "false", "batches for a GPU are always in pinned memory"},
    {"--tta", value, "0", "0", "evaluation sees one crop of an image"},

    // Model
    {"--pretrained", nothing, kNone, "false",
     "no weights come along: give a file by --initial-checkpoint"},
    {"--pretrained-path", value, kNone, "null",
     "here it is '--initial-checkpoint', with --reset-head where the classes are others"},
    {"--gp", value, "avg", "null", "the head takes the mean over all tokens"},
    {"--fast-norm", nothing, kAny, "false", "norms are one fused kernel, with float32 statistics"},
    {"--model-kwargs", values, kNone, "{}",
     "--guidance, --scales, --regions and --drop-path change the model"},
    {"--head-init-scale", value, kNone, "null", "weights begin as published"},
    {"--head-init-bias", value, kNone, "null", "weights begin as published"},
    {"--fuser", value, kAny, "\"\"", kNoCompiler},
    {"--torchscript", nothing, kAny, "false", kNoCompiler},
    {"--aot-autograd", nothing, kAny, "false", kNoCompiler},
    {"--torchcompile", value_or_nothing, kAny, "null", kNoCompiler},
    {"--torchcompile-mode", value, kAny, "null", kNoCompiler},
    {"--drop", value, "0", "0",
     "classifiers have no dropout, segmentation heads always 0.1; --drop-path is stochastic depth"},
    {"--drop-connect", value, "0", "null", "here it is '--drop-path'"},
    {"--drop-block", value, "0", "null", "the model has none; --drop-path is its stochastic depth"},
    {"--bn-tf", nothing, kAny, "false", kBatchNorm},
    {"--bn-momentum", value, kAny, "null", kBatchNorm},
    {"--bn-eps", value, kAny, "null", kBatchNorm},
    {"--sync-bn", nothing, kAny, "false", kBatchNorm},
    {"--dist-bn", value, kAny, "\"reduce\"", kBatchNorm},
    {"--split-bn", nothing, kAny, "false", kBatchNorm},
    {"--use-chk", nothing, kNone, "false", "here it is '--grad-checkpointing'"},

    // Device
    {"--amp", nothing, TimmFlag::kAmp, "false", kMixedPrecision},
    {"--native-amp", nothing, TimmFlag::kAmp, "false", kMixedPrecision},
    {"--apex-amp", nothing, TimmFlag::kAmp, "false", kMixedPrecision},
    {"--amp-dtype", value, "bfloat16", "\"float16\"",
     "mixed precision is bfloat16 (--dtype bf16), which needs no scaling of the loss"},
    {"--amp-impl", value, "native", "\"native\"", "there is no Apex"},
    {"--model-dtype", value, "float32", "null",
     "weights are float32; --dtype bf16 computes in bfloat16"},
    {"--channels-last", nothing, kAny, "false", "images and activations are always channels last"},
    {"--no-ddp-bb", nothing, kAny, "false",
     "running statistics are those of all processes already"},
    {"--synchronize-step", nothing, kAny, "false", "each step ends when its loss has been read"},
    {"--local_rank,--local-rank", value, TimmFlag::kLocalRank, "0",
     "the environment says it, as torchrun and torch.distributed.launch set it"},
    {"--num-gpu", value, "1", "1", "a process trains on one GPU; --nproc-per-node starts several"},
    {"--device-modules", values, kNone, "null", "no Python modules are loaded; see --device"},

    // Optimizer and schedule
    {"--opt", value, "adamw", "\"adamw\"", "the optimizer is always AdamW"},
    {"--opt-kwargs", values, kNone, "{}", "AdamW has --opt-betas, --opt-eps and --weight-decay"},
    {"--momentum", value, kAny, "0.9", "of SGD; AdamW has --opt-betas"},
    {"--layer-decay-min-scale", value, "0", "0", "--layer-decay has no lower limit"},
    {"--layer-decay-no-opt-scale", value, kNone, "null", "--freeze keeps the lower layers"},
    {"--sched", value, "cosine", "\"cosine\"",
     "the learning rate follows a cosine, of segmentation a polynomial (--poly-power)"},
    {"--lr-noise", values, kNone, "null", "the learning rate has no noise"},
    {"--lr-noise-pct", value, kAny, "0.67", "the learning rate has no noise"},
    {"--lr-noise-std", value, kAny, "1.0", "the learning rate has no noise"},
    {"--lr-cycle-mul", value, "1", "1.0", "the cosine has one cycle"},
    {"--lr-cycle-decay", value, kAny, "0.5", "the cosine has one cycle"},
    {"--lr-cycle-limit", value, "1", "1", "the cosine has one cycle"},
    {"--lr-k-decay", value, "1", "1.0", "the cosine has no other shape"},
    {"--decay-milestones", values, kAny, "[90, 180, 270]", kOtherSchedule},
    {"--decay-epochs", value, kAny, "90", kOtherSchedule},
    {"--decay-rate,--dr", value, kAny, "0.1", kOtherSchedule},

    // Loss and averaged weights
    {"--jsd-loss", nothing, kNone, "false", kNoSplits},
    {"--jsd", nothing, kNone, "false", kNoSplits},
    {"--bce-pos-weight", value, kNone, "null", "--bce-loss has no weights of positive targets"},
    {"--model-ema", nothing, kAny, "false", "--model-ema-decay says whether weights are averaged"},
    {"--model-ema-force-cpu", nothing, kAny, "false",
     "averaged weights lie beside the weights and are always evaluated"},

    // Output
    {"--validation-batch-size-multiplier", value, "1", "1", "--validation-batch-size is a number"},
    {"--eval_checkpoint,--eval-checkpoint", value, kNone, "\"\"",
     "a program of its own evaluates: sgeval --data DIR --checkpoint F"},
    {"--save-images", nothing, kNone, "false",
     "report.html of a run shows training images as the network sees them"},
    {"--log-wandb", nothing, kNone, "false", kNoWandb},
    {"--wandb-project", value, kNone, "null", kNoWandb},
    {"--wandb-tags", values, kNone, "[]", kNoWandb},
    {"--wandb-resume-id", value, kNone, "\"\"", kNoWandb},

    // NaFlex and distillation
    {"--naflex-loader", nothing, kNone, "false", kNoNaflex},
    {"--naflex-train-seq-lens", values, kNone, "[128, 256, 576, 784, 1024]", kNoNaflex},
    {"--naflex-max-seq-len", value, kNone, "576", kNoNaflex},
    {"--naflex-patch-sizes", values, kNone, "null", kNoNaflex},
    {"--naflex-patch-size-probs", values, kNone, "null", kNoNaflex},
    {"--naflex-loss-scale", value, kNone, "\"linear\"", kNoNaflex},
    {"--naflex-patchify-channels-first", nothing, kNone, "false", kNoNaflex},
    {"--kd-model-name", value, kNone, "null", kNoDistillation},
    {"--kd-distill-type", value, kNone, "\"logit\"", kNoDistillation},
    {"--kd-loss-type", value, kNone, "\"kl\"", kNoDistillation},
    {"--kd-temperature", value, kNone, "4.0", kNoDistillation},
    {"--kd-student-feature-dim", value, kNone, "null", kNoDistillation},
    {"--kd-teacher-feature-dim", value, kNone, "null", kNoDistillation},
    {"--kd-token-distill-type", value, kNone, "\"soft\"", kNoDistillation},
    {"--distill-loss-weight", value, kNone, "null", kNoDistillation},
    {"--task-loss-weight", value, kNone, "null", kNoDistillation},
};

}  // namespace

std::span<const TimmFlag> timm_flags() { return kFlags; }

}  // namespace sg::tools
