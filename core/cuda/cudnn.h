// cuDNN, opened when it is first used, and the part of its backend interface that is used. It is
// declared here, as of cuDNN 9, so that a build needs no header of it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/library.h"

namespace sg::cuda::cudnn {

using Handle = struct HandleOfCudnn*;
using Descriptor = void*;
using Status = int;  // cudnnStatus_t
enum : Status {
  kSuccess = 0,
  kSublibraryVersionMismatch = 1002,
  kSublibraryLoadingFailed = 1008,
  kNotSupported = 3000,  // and all up to 3999
  kSublibraryUnavailable = 3009,
};

enum class Kind : int {  // cudnnBackendDescriptorType_t
  convolution = 1,
  engine = 2,
  engine_config = 3,
  engine_heuristics = 4,
  execution_plan = 5,
  knob_choice = 7,
  convolution_forward = 10,
  convolution_backward_filter = 11,
  convolution_backward_data = 12,
  operation_graph = 15,
  variant_pack = 16,
  tensor = 17,
  device_properties = 38,
};

enum class Attribute : int {  // cudnnBackendAttributeName_t
  convolution_comp_type = 100,
  convolution_mode = 101,
  convolution_dilations = 102,
  convolution_filter_strides = 103,
  convolution_post_paddings = 104,
  convolution_pre_paddings = 105,
  convolution_spatial_dims = 106,
  heuristics_mode = 200,
  heuristics_operation_graph = 201,
  heuristics_results = 202,
  heuristics_device_properties = 204,
  engine_config_engine = 300,
  engine_config_knob_choices = 302,
  execution_plan_handle = 400,
  execution_plan_engine_config = 401,
  execution_plan_workspace_size = 402,
  execution_plan_device_properties = 407,
  knob_choice_type = 600,
  knob_choice_value = 601,
  // Of the forward operation; those of backward_data (dx, dy) and backward_filter (dw) follow.
  forward_alpha = 700,
  forward_beta = 701,
  forward_convolution = 702,
  forward_w = 703,
  forward_x = 704,
  forward_y = 705,
  backward_data_alpha = 706,
  backward_data_beta = 707,
  backward_data_convolution = 708,
  backward_data_w = 709,
  backward_data_dx = 710,
  backward_data_dy = 711,
  backward_filter_alpha = 712,
  backward_filter_beta = 713,
  backward_filter_convolution = 714,
  backward_filter_dw = 715,
  backward_filter_x = 716,
  backward_filter_dy = 717,
  operation_graph_handle = 800,
  operation_graph_operations = 801,
  tensor_byte_alignment = 900,
  tensor_data_type = 901,
  tensor_dimensions = 902,
  tensor_strides = 903,
  tensor_unique_id = 906,
  variant_pack_unique_ids = 1000,
  variant_pack_data_pointers = 1001,
  variant_pack_workspace = 1003,
  engine_global_index = 1301,
  engine_numerical_note = 1303,
  device_properties_json = 2702,
};

enum class Type : int {  // cudnnBackendAttributeType_t
  handle = 0,
  data_type = 1,
  int64 = 3,
  f32 = 4,
  void_pointer = 6,
  convolution_mode = 7,
  heuristics_mode = 8,
  knob_type = 9,
  numerical_note = 11,
  descriptor = 15,
  character = 24,
};

enum class DataType : int { f32 = 0, bf16 = 9 };  // cudnnDataType_t
enum class ConvolutionMode : int { cross_correlation = 1 };
enum class HeuristicsMode : int { fallback = 2, a = 3 };
enum class Note : int {  // cudnnBackendNumericalNote_t
  tensor_core = 0,
  down_convert_inputs = 1,
  reduced_precision_reduction = 2,
  nondeterministic = 4,
  winograd = 5,
};
constexpr int kMostNotes = 32;  // there are ten kinds

struct Api {
  Api();  // throws ExitCode::usage where it cannot be opened
  Library library;
#define SG_CUDNN(member, name, ...) \
  Status (*const member)(__VA_ARGS__) = library.function<Status(__VA_ARGS__)>(#name)
  SG_CUDNN(create, cudnnCreate, Handle*);
  SG_CUDNN(set_stream, cudnnSetStream, Handle, void*);
  SG_CUDNN(create_descriptor, cudnnBackendCreateDescriptor, Kind, Descriptor*);
  SG_CUDNN(destroy_descriptor, cudnnBackendDestroyDescriptor, Descriptor);
  SG_CUDNN(finalize, cudnnBackendFinalize, Descriptor);
  SG_CUDNN(set, cudnnBackendSetAttribute, Descriptor, Attribute, Type, int64_t, const void*);
  SG_CUDNN(get, cudnnBackendGetAttribute, Descriptor, Attribute, Type, int64_t, int64_t*, void*);
  SG_CUDNN(execute, cudnnBackendExecute, Handle, Descriptor, Descriptor);
#undef SG_CUDNN
  size_t (*const get_version)() = library.function<size_t()>("cudnnGetVersion");
  const char* (*const error_string)(Status) =
      library.function<const char*(Status)>("cudnnGetErrorString");
  void (*const last_error)(char*, size_t) =
      library.function<void(char*, size_t)>("cudnnGetLastErrorString");

  std::string version() const;  // "cuDNN 9.19.0"
  // "cudnnCreate failed: CUDNN_STATUS_... (1001)", cuDNN's own words, and what to do if it is
  // known.
  std::string describe(const char* call, Status status) const;
};

}  // namespace sg::cuda::cudnn
