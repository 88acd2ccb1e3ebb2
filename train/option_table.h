// Every option of a training run, named once: flags, args.json, --config, range checks, the table
// of the report and the comparison at --resume all follow from each_option(). Other programs take
// those that they share with sgtrain from it too (tools/common/options.h).
#pragma once
#include <cmath>
#include <string>
#include <string_view>

#include "train/options.h"

namespace sg::train {

// What a change of the option means to a run that is resumed.
enum class OnResume {
  fixed,    // refused: weights or the order of samples would not fit
  noted,    // allowed: the run goes on, but is another one
  ignored,  // of no influence on the result
  not_kept  // how one process starts: not in args.json, a checkpoint or the command to go on
};

struct OptionInfo {
  const char* flags;  // as CLI11 takes them: "-b,--batch-size"
  const char* help;
  OnResume on_resume = OnResume::noted;
  double low = -INFINITY, high = INFINITY;
  const char* group = "";  // heading of --help

  std::string_view name() const {  // "batch-size"
    const std::string_view all(flags);
    return all.substr(all.rfind("--") + 2);
  }
};

// "from 0 to 1", "at least 0"
std::string range_of(const OptionInfo& info);
// Throws ExitCode::usage naming the flag, what is allowed and what was found.
void check_range(const OptionInfo& info, double value);

template <class O, class F>
void each_model_option(O& o, F&& f) {
  using enum OnResume;
  f(OptionInfo{"--task", "what is learnt: classification, segmentation, detection", fixed}, o.task);
  f(OptionInfo{"--head", "of segmentation: upernet, semantic_fpn", fixed}, o.head);
  f(OptionInfo{"--model", "sgformer_s, sgformer_m, sgformer_b, or sgformer_nano for small images",
               fixed},
    o.model);
  f(OptionInfo{"--num-classes", "width of the head; default: the classes of the data", fixed, 1,
               1 << 24},
    o.num_classes);
  f(
      OptionInfo{
          "--img-size",
          "pixels: N, or HEIGHT WIDTH or HxW; default: the model's own (nano 28, others 224); of "
          "segmentation, the training crop, 512",
          fixed, 1, 8192},
      o.img_size);
  f(OptionInfo{"--guidance", "significance that guides: hybrid, local, global, uniform", fixed},
    o.guidance);
  f(OptionInfo{"--scales",
               "head groups a stage, e.g. '8g,4,2,1;4g,1;2g,1' (g: global; '-': as it is)", fixed},
    o.scales);
  f(OptionInfo{"--regions", "share:ranks a token, a stage, e.g. '1/4:196,1/2:56,1/4:28;-;-'",
               fixed},
    o.regions);
  f(OptionInfo{"--balance-significance", "weigh the global map by keys/49, for large images",
               fixed},
    o.balance_significance);
  f(OptionInfo{"--grad-checkpointing",
               "keep block inputs only and compute the rest again in backward", ignored},
    o.grad_checkpointing);
}

template <class O, class F>
void each_data_option(O& o, F&& f) {
  using enum OnResume;
  f(
      OptionInfo{
          "data,--data-dir,--data-path,--data",
          "folder with train/ and val/, a sub-folder per class; or of tar shards, lists or IDX "
          "files (docs/data.md)",
          ignored},
      o.data);
  f(OptionInfo{"--train-split",
               "folder or shards in --data to learn from, 'train' also finds training/; or a "
               "pattern of shards, or a file of 'path label' lines",
               ignored},
    o.train_split);
  f(
      OptionInfo{
          "--val-split",
          "folder or shards in --data to evaluate on, 'val' also finds validation/, valid/, "
          "eval/, evaluation/, test/; or a pattern of shards, or a file of 'path label' lines"},
      o.val_split);
  f(OptionInfo{"--val-share",
               "share of each class held out where there is no validation set, chosen by --seed",
               fixed, 0, std::nextafter(1, 0)},
    o.val_share);
  f(OptionInfo{"--class-map",
               "file with a class name a line, or 'name index'; default: the folders", ignored},
    o.class_map);
  f(
      OptionInfo{
          "--class-order",
          "of folders as classes: name (10 before 2, as torchvision), natural (2 before 10, as "
          "timm)",
          ignored},
      o.class_order);
  f(OptionInfo{"--class-names",
               "file of readable names of classes to show: 'n01440764 tench' a line, or JSON; "
               "default: LOC_synset_mapping.txt, synset_words.txt or imagenet_class_index.json in "
               "--data",
               ignored},
    o.class_names);
  f(OptionInfo{"--ignore-index",
               "segmentation: label of pixels that are neither learnt nor counted, as the files "
               "have it; default: 255",
               fixed, 0, 255},
    o.ignore_index);
  f(OptionInfo{"--reduce-zero-label",
               "segmentation: in the files 0 is no class and 1 the first one, as in ADE20K", fixed},
    o.reduce_zero_label);
  f(OptionInfo{"--image-scale",
               "longer and shorter side that images are resized into, keeping their shape; default "
               "of segmentation: 4 times --img-size, and --img-size; of detection: 1333 800",
               fixed, 1, 65536},
    o.image_scale);
  f(
      OptionInfo{
          "--ratio-range",
          "segmentation: least and largest number that --image-scale is multiplied by in training",
          noted, 1.0 / 16, 16},
      o.ratio_range);
  f(
      OptionInfo{
          "--cat-max-ratio",
          "segmentation: largest share of one class in a training crop, else another is drawn, "
          "up to ten times",
          noted, 0, 1},
      o.cat_max_ratio);
  f(OptionInfo{"--multi-scale",
               "detection: shorter sides of 480 to 800 in training, and of half of the images a "
               "crop",
               noted},
    o.multi_scale);
  f(OptionInfo{"--max-broken-share",
               "share of images that may be broken and are skipped; ten may in any case but of 0",
               ignored, 0, 1},
    o.max_broken_share);
  f(OptionInfo{"--no-listing-cache",
               "list all folders anew; else those that have not changed since the last time come "
               "from ~/.cache/sgformer",
               ignored},
    o.no_listing_cache);
  f(OptionInfo{"--aug-repeats",
               "copies of an image in an epoch, which stays as long, augmented apart; 0: none",
               fixed, 0, 256},
    o.aug_repeats);
  f(OptionInfo{"--scale", "least and largest share of the image's area in a training crop", noted,
               1e-6, 1},
    o.scale);
  f(OptionInfo{"--ratio", "least and largest width / height of a training crop", noted, 1e-3, 1e3},
    o.ratio);
  f(OptionInfo{"--hflip", "probability of mirroring a training image", noted, 0, 1}, o.hflip);
  f(OptionInfo{"--vflip", "probability of turning a training image upside down", noted, 0, 1},
    o.vflip);
  f(OptionInfo{"--aa", "RandAugment of training images, 'rand-m9-mstd0.5-inc1', or none"}, o.aa);
  f(OptionInfo{"--color-jitter",
               "of brightness, contrast and saturation, where --aa is none; 0: none", noted, 0,
               1e3},
    o.color_jitter);
  f(OptionInfo{"--color-jitter-prob", "probability of --color-jitter", noted, 0, 1},
    o.color_jitter_prob);
  f(OptionInfo{"--grayscale-prob", "probability of making a training image grey", noted, 0, 1},
    o.grayscale_prob);
  f(
      OptionInfo{
          "--no-aug",
          "train on whole images, squeezed to --img-size: no crops, flips, colours or erasing"},
      o.no_aug);
  f(OptionInfo{"--train-interpolation", "of training crops: random, bilinear, bicubic"},
    o.train_interpolation);
  f(OptionInfo{"--mixup", "alpha of mixup, whose lambda is Beta(alpha, alpha); 0: none", noted, 0,
               1e3},
    o.mixup);
  f(OptionInfo{"--cutmix", "alpha of CutMix; 0: none", noted, 0, 1e3}, o.cutmix);
  f(OptionInfo{"--cutmix-minmax",
               "least and largest share of height and of width of a CutMix box, drawn evenly, "
               "in place of --cutmix",
               noted, 0, 1},
    o.cutmix_minmax);
  f(OptionInfo{"--mixup-prob", "probability of mixup or CutMix", noted, 0, 1}, o.mixup_prob);
  f(OptionInfo{"--mixup-switch-prob", "probability of CutMix where both are on", noted, 0, 1},
    o.mixup_switch_prob);
  f(OptionInfo{"--mixup-mode",
               "one draw per batch (--mixup-group), per pair of images, or per elem"},
    o.mixup_mode);
  f(OptionInfo{"--mixup-off-epoch", "no mixup and CutMix from this epoch on; 0: in all epochs",
               noted, 0, 1e6},
    o.mixup_off_epoch);
  f(OptionInfo{"--mixup-group",
               "images that are mixed among themselves, an even number that divides the batch; "
               "default: the batch",
               noted, 2, 1 << 20},
    o.mixup_group);
  f(OptionInfo{"--reprob", "probability of erasing boxes of a training image", noted, 0, 1},
    o.reprob);
  f(OptionInfo{"--remode",
               "what erased boxes become: pixel (noise), rand (a random colour each), const (the "
               "mean colour)"},
    o.remode);
  f(OptionInfo{"--recount", "most boxes to erase in an image, which share the area", noted, 1,
               kMaxErased},
    o.recount);
  f(OptionInfo{"--crop-pct",
               "share of the shorter side that evaluation sees; default: 0.9, sgformer_nano 1",
               noted, 0.01, 1},
    o.crop_pct);
  f(OptionInfo{"--mean", "of red, green, blue; the full range is 1", noted, -10, 10}, o.mean);
  f(OptionInfo{"--std", "of red, green, blue; the full range is 1", noted, 1e-6, 1e3}, o.std);
}

template <class O, class F>
void each_optimization_option(O& o, F&& f) {
  using enum OnResume;
  f(OptionInfo{"--epochs",
               "epochs of warm-up and cosine together, of detection all; segmentation has --steps",
               noted, 1, 1e6},
    o.epochs);
  f(OptionInfo{"--warmup-epochs",
               "epochs of linear warm-up; default: 20, in runs that are no longer the same share "
               "of them as of 300; sgformer_nano 0",
               noted, 0, 1e6},
    o.warmup_epochs);
  f(OptionInfo{"--cooldown-epochs", "epochs at --min-lr after the others", noted, 0, 1e6},
    o.cooldown_epochs);
  f(OptionInfo{"--steps",
               "segmentation: length of the run, in place of --epochs; default: the recipe's",
               noted, 0, 1LL << 53},
    o.steps);
  f(OptionInfo{"--eval-interval",
               "steps from one evaluation and its checkpoint to the next, at the end of an epoch; "
               "default: every epoch, with --steps a tenth of the run; the end always has them",
               noted, 1, 1LL << 53},
    o.eval_interval);
  f(OptionInfo{"--patience-epochs",
               "end the run after so many epochs in a row without a better score; 0: never", noted,
               0, 1e6},
    o.patience_epochs);
  f(OptionInfo{"-b,--batch,--batch-size", "images a forward pass of one process", noted, 1,
               1 << 20},
    o.batch_size);
  f(OptionInfo{"--validation-batch-size",
               "images of a batch of the evaluation (-vb); default: --batch-size", ignored, 1,
               1 << 20},
    o.validation_batch_size);
  f(OptionInfo{"--grad-accum-steps,--grad-accum", "forward passes a step", noted, 1, 1 << 16},
    o.grad_accum);
  f(
      OptionInfo{
          "--lr",
          "highest learning rate, not scaled by the batch; default: 1e-3, of segmentation 6e-5 "
          "with upernet, else 1e-4, of detection 1e-4; sgformer_nano 2e-3",
          noted, 0, 1e3},
      o.lr);
  f(OptionInfo{"--lr-base",
               "highest learning rate for steps of --lr-base-size images, scaled to those of this "
               "run; --lr wins over it",
               noted, 0, 1e3},
    o.lr_base);
  f(OptionInfo{"--lr-base-size", "images a step that --lr-base is for", noted, 1, 1e9},
    o.lr_base_size);
  f(OptionInfo{"--lr-base-scale",
               "how --lr-base grows with the images a step: sqrt, as fits AdamW, or linear"},
    o.lr_base_scale);
  f(OptionInfo{"--min-lr", "learning rate at the end of the schedule", noted, 0, 1e3}, o.min_lr);
  f(OptionInfo{"--warmup-lr", "learning rate of the first warm-up epoch", noted, 0, 1e3},
    o.warmup_lr);
  f(OptionInfo{"--layer-decay",
               "learning rate of a layer over that of the one above, head 1; 1: all the same",
               noted, 1e-3, 1},
    o.layer_decay);
  f(OptionInfo{"--sched-on-updates",
               "learning rates follow the steps, not the epochs: they rise and fall within one"},
    o.sched_on_updates);
  f(OptionInfo{"--warmup-prefix",
               "--warmup-epochs come before --epochs, which are those of the cosine alone", fixed},
    o.warmup_prefix);
  f(OptionInfo{"--poly-power",
               "segmentation: the learning rate falls as (1 - step / steps) to this power", noted,
               0, 100},
    o.poly_power);
  f(OptionInfo{"--lr-milestones",
               "detection: the two epochs, counted from 0, from which on --lr-gamma multiplies the "
               "learning rate; default: two thirds and eleven twelfths of --epochs",
               noted, 0, 1e6},
    o.decay_milestones);
  f(OptionInfo{"--lr-gamma", "detection: of the learning rate at each of --lr-milestones", noted, 0,
               1},
    o.decay_rate);
  f(OptionInfo{"--warmup-steps", "segmentation, detection: steps of linear warm-up", noted, 0,
               1LL << 53},
    o.warmup_steps);
  f(OptionInfo{"--warmup-ratio",
               "segmentation, detection: share of the learning rate that --warmup-steps begin with",
               noted, 0, 1},
    o.warmup_ratio);
  f(OptionInfo{"--opt-eps", "of AdamW, added to the root of the second moment", noted, 1e-30, 1},
    o.opt_eps);
  f(OptionInfo{"--opt-betas", "of AdamW, of the first and the second moment", noted, 0,
               std::nextafter(1, 0)},
    o.opt_betas);
  f(OptionInfo{"--weight-decay", "of matrices and convolutions", noted, 0, 1e3}, o.weight_decay);
  f(OptionInfo{"--clip-grad", "largest norm of the gradient; 0: no clipping", noted, 0, INFINITY},
    o.clip_grad);
  f(OptionInfo{"--clip-mode",
               "what --clip-grad limits: the norm of the gradient, or the value of each element"},
    o.clip_mode);
  f(OptionInfo{"--drop-path", "stochastic depth of the last block; default: the model's own", noted,
               0, std::nextafter(1, 0)},
    o.drop_path);
  f(OptionInfo{"--smoothing", "of the labels", noted, 0, 1}, o.smoothing);
  f(OptionInfo{"--aux-weight", "segmentation: of the auxiliary head's loss", noted, 0, 1e3},
    o.aux_weight);
  f(OptionInfo{"--bce-loss", "binary cross entropy of each class in place of one over the classes"},
    o.bce_loss);
  f(OptionInfo{"--bce-target-thresh",
               "of --bce-loss: targets above it become 1, others 0; default: they stay soft", noted,
               0, 1},
    o.bce_target_thresh);
  f(OptionInfo{"--bce-sum", "of --bce-loss: the sum over the classes, not their mean"}, o.bce_sum);
  f(
      OptionInfo{
          "--class-weights",
          "of the loss: 'balanced' (the rarer a class, the more), or a file of them: numbers in "
          "the order of the classes, or a JSON object by their names"},
      o.class_weights);
  f(OptionInfo{"--freeze", "what keeps its weights: backbone, or its first N stages, 1 to 4",
               fixed},
    o.freeze);
  f(OptionInfo{"--model-ema-decay",
               "of the averaged weights, 0: none; default: 0.99992, for short runs 1 - 31 / steps",
               noted, 0, std::nextafter(1, 0)},
    o.model_ema_decay);
  f(OptionInfo{"--model-ema-warmup",
               "the decay rises with the step k from 0: 1 - k^(-2/3), up to --model-ema-decay"},
    o.model_ema_warmup);
  f(OptionInfo{"--seed", "of everything drawn at random", fixed, 0, 1LL << 53}, o.seed);
  f(OptionInfo{"--max-steps", "end the run after so many steps; 0: after the epochs", ignored, 0,
               1LL << 53},
    o.max_steps);
}

template <class O, class F>
void each_runtime_option(O& o, F&& f) {
  using enum OnResume;
  f(OptionInfo{"--device", kDeviceHelp}, o.device);
  f(OptionInfo{"--dtype", kDtypeHelp}, o.dtype);
  f(OptionInfo{"--threads", "threads that compute; default: the cores it may use", ignored, 1,
               4096},
    o.threads);
  f(OptionInfo{"-j,--workers",
               "threads that load images; default: the cores it may use, 2 to 8; 0: between steps",
               ignored, 0, 1024},
    o.workers);
  f(OptionInfo{"--eager", "cuda: issue operations one by one, not as one graph a step", ignored},
    o.eager);
}

template <class O, class F>
void each_process_option(O& o, F&& f) {
  using enum OnResume;
  f(OptionInfo{"--nproc_per_node,--nproc-per-node",
               "processes to start on this host, each with a GPU of its own, or a share of the "
               "cores: N, or 'gpu' for as many as there are; default: this one alone",
               ignored},
    o.nproc_per_node);
  f(OptionInfo{"--max_restarts,--max-restarts",
               "with --nproc-per-node: how often all processes start again from the last "
               "checkpoint after one was lost",
               ignored, 0, 1e6},
    o.max_restarts);
  f(OptionInfo{"--dist-timeout",
               "seconds that processes wait for one that does not come, or does not go on, before "
               "they end with exit code 5",
               ignored, 1, 1e6},
    o.dist_timeout);
  f(OptionInfo{"--reduce-order",
               "of the sum of gradients over processes: ring (fast), or fixed, the same bits for "
               "any number of processes that take the same forward passes"},
    o.reduce_order);
  f(OptionInfo{"--reduce-dtype", "what gradients are sent as: f32, or bf16 in half the bytes"},
    o.reduce_dtype);
  f(OptionInfo{"--bucket-cap-mb",
               "gradients that are sent at a time, in 10^6 bytes of f32; their sums depend on it "
               "in the last "
               "bits",
               noted, 0.001, 1e6},
    o.bucket_cap_mb);
}

template <class O, class F>
void each_output_option(O& o, F&& f) {
  using enum OnResume;
  f(OptionInfo{"--output", "folder of the run; default: output/train/<date>-<model>-<size>",
               ignored},
    o.output);
  f(OptionInfo{"--experiment", "sub-folder of --output", ignored}, o.experiment);
  f(OptionInfo{"--resume",
               "go on from a checkpoint, a run's folder, or 'auto': --output's newest where there "
               "is one",
               not_kept},
    o.resume);
  f(OptionInfo{"--accept-data-change",
               "with --resume: training images have changed within an epoch; it begins again",
               not_kept},
    o.accept_data_change);
  f(OptionInfo{"--no-resume-opt", "with --resume: the optimizer's moments begin anew", not_kept},
    o.no_resume_opt);
  f(OptionInfo{"--start-epoch",
               "begin with this epoch, from 0, or with --resume go on with it: its learning rate, "
               "its order of images",
               not_kept, 0, 1e6},
    o.start_epoch);
  f(OptionInfo{"--initial-checkpoint",
               "weights to start from (.safetensors, .pth, or a run's folder); not read where "
               "--resume goes on",
               ignored},
    o.initial_checkpoint);
  f(OptionInfo{"--reset-head", "leave out the head of --initial-checkpoint", ignored},
    o.reset_head);
  f(OptionInfo{"--ema", "averaged weights of --initial-checkpoint; the default where it has them",
               ignored},
    o.ema);
  f(OptionInfo{"--no-ema", "the weights of --initial-checkpoint that are not averaged", ignored},
    o.no_ema);
  f(OptionInfo{"--log-interval", "steps from one log line to the next", ignored, 1, 1e9},
    o.log_interval);
  f(OptionInfo{"--recovery-interval", "steps between checkpoints within an epoch; 0: none", ignored,
               0, 1e9},
    o.recovery_interval);
  f(OptionInfo{"--checkpoint-hist", "best checkpoints to keep", ignored, 1, 1e6},
    o.checkpoint_hist);
  f(OptionInfo{"--eval-metric",
               "score that chooses the best checkpoint: top1, top5 or loss; mIoU, mAcc or aAcc; "
               "box_AP, mask_AP and others",
               fixed},
    o.eval_metric);
  f(OptionInfo{"--dry-run", "build everything, print it, and end without writing", not_kept},
    o.dry_run);
}

// f(info, member) for each, by group, in the order of --help. O is Options or const Options.
template <class O, class F>
void each_option(O& o, F&& f) {
  const auto in = [&](const char* group) {
    return [&f, group](OptionInfo info, auto& value) {
      info.group = group;
      f(info, value);
    };
  };
  each_model_option(o, in("Model"));
  each_data_option(o, in("Data and augmentation"));
  each_optimization_option(o, in("Optimization"));
  each_runtime_option(o, in("Runtime"));
  each_process_option(o, in("Several processes"));
  each_output_option(o, in("Output"));
}

}  // namespace sg::train
