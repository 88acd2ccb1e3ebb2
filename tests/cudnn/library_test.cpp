// The real cuDNN, where it is installed: what it would choose for the heads on an H200, which needs
// no GPU. Where its header is installed too, what core/cuda/cudnn.h declares is compared with it.
#include <doctest/doctest.h>

#include "core/cuda/cudnn.h"
#include "core/cuda/cudnn_convolution.h"
#include "core/error.h"
#include "tests/support/skip.h"

#if __has_include(<cudnn_graph.h>)
#include <cudnn_graph.h>
#endif

using namespace sg;

#if __has_include(<cudnn_graph.h>)
namespace {
using namespace cuda::cudnn;
#define SG_SAME(ours, theirs) static_assert(int(ours) == int(theirs))
SG_SAME(Kind::convolution, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
SG_SAME(Kind::engine, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
SG_SAME(Kind::engine_config, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
SG_SAME(Kind::engine_heuristics, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
SG_SAME(Kind::execution_plan, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
SG_SAME(Kind::knob_choice, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
SG_SAME(Kind::convolution_forward, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
SG_SAME(Kind::convolution_backward_filter,
        CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR);
SG_SAME(Kind::convolution_backward_data,
        CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
SG_SAME(Kind::operation_graph, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
SG_SAME(Kind::variant_pack, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
SG_SAME(Kind::tensor, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
SG_SAME(Kind::device_properties, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
SG_SAME(Attribute::convolution_comp_type, CUDNN_ATTR_CONVOLUTION_COMP_TYPE);
SG_SAME(Attribute::convolution_mode, CUDNN_ATTR_CONVOLUTION_CONV_MODE);
SG_SAME(Attribute::convolution_dilations, CUDNN_ATTR_CONVOLUTION_DILATIONS);
SG_SAME(Attribute::convolution_filter_strides, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
SG_SAME(Attribute::convolution_post_paddings, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS);
SG_SAME(Attribute::convolution_pre_paddings, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
SG_SAME(Attribute::convolution_spatial_dims, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS);
SG_SAME(Attribute::heuristics_mode, CUDNN_ATTR_ENGINEHEUR_MODE);
SG_SAME(Attribute::heuristics_operation_graph, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
SG_SAME(Attribute::heuristics_results, CUDNN_ATTR_ENGINEHEUR_RESULTS);
SG_SAME(Attribute::heuristics_device_properties, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
SG_SAME(Attribute::engine_config_engine, CUDNN_ATTR_ENGINECFG_ENGINE);
SG_SAME(Attribute::engine_config_knob_choices, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES);
SG_SAME(Attribute::execution_plan_handle, CUDNN_ATTR_EXECUTION_PLAN_HANDLE);
SG_SAME(Attribute::execution_plan_engine_config, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
SG_SAME(Attribute::execution_plan_workspace_size, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
SG_SAME(Attribute::execution_plan_device_properties, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
SG_SAME(Attribute::knob_choice_type, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE);
SG_SAME(Attribute::knob_choice_value, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
SG_SAME(Attribute::forward_alpha, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA);
SG_SAME(Attribute::forward_beta, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA);
SG_SAME(Attribute::forward_convolution, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
SG_SAME(Attribute::forward_w, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W);
SG_SAME(Attribute::forward_x, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X);
SG_SAME(Attribute::forward_y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y);
SG_SAME(Attribute::backward_data_alpha, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA);
SG_SAME(Attribute::backward_data_beta, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA);
SG_SAME(Attribute::backward_data_convolution, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC);
SG_SAME(Attribute::backward_data_w, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W);
SG_SAME(Attribute::backward_data_dx, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX);
SG_SAME(Attribute::backward_data_dy, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY);
SG_SAME(Attribute::backward_filter_alpha, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA);
SG_SAME(Attribute::backward_filter_beta, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA);
SG_SAME(Attribute::backward_filter_convolution,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC);
SG_SAME(Attribute::backward_filter_dw, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW);
SG_SAME(Attribute::backward_filter_x, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X);
SG_SAME(Attribute::backward_filter_dy, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY);
SG_SAME(Attribute::operation_graph_handle, CUDNN_ATTR_OPERATIONGRAPH_HANDLE);
SG_SAME(Attribute::operation_graph_operations, CUDNN_ATTR_OPERATIONGRAPH_OPS);
SG_SAME(Attribute::tensor_byte_alignment, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
SG_SAME(Attribute::tensor_data_type, CUDNN_ATTR_TENSOR_DATA_TYPE);
SG_SAME(Attribute::tensor_dimensions, CUDNN_ATTR_TENSOR_DIMENSIONS);
SG_SAME(Attribute::tensor_strides, CUDNN_ATTR_TENSOR_STRIDES);
SG_SAME(Attribute::tensor_unique_id, CUDNN_ATTR_TENSOR_UNIQUE_ID);
SG_SAME(Attribute::variant_pack_unique_ids, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
SG_SAME(Attribute::variant_pack_data_pointers, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
SG_SAME(Attribute::variant_pack_workspace, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
SG_SAME(Attribute::engine_global_index, CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
SG_SAME(Attribute::engine_numerical_note, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE);
SG_SAME(Attribute::device_properties_json, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION);
SG_SAME(Type::handle, CUDNN_TYPE_HANDLE);
SG_SAME(Type::data_type, CUDNN_TYPE_DATA_TYPE);
SG_SAME(Type::int64, CUDNN_TYPE_INT64);
SG_SAME(Type::f32, CUDNN_TYPE_FLOAT);
SG_SAME(Type::void_pointer, CUDNN_TYPE_VOID_PTR);
SG_SAME(Type::convolution_mode, CUDNN_TYPE_CONVOLUTION_MODE);
SG_SAME(Type::heuristics_mode, CUDNN_TYPE_HEUR_MODE);
SG_SAME(Type::knob_type, CUDNN_TYPE_KNOB_TYPE);
SG_SAME(Type::numerical_note, CUDNN_TYPE_NUMERICAL_NOTE);
SG_SAME(Type::descriptor, CUDNN_TYPE_BACKEND_DESCRIPTOR);
SG_SAME(Type::character, CUDNN_TYPE_CHAR);
SG_SAME(Note::tensor_core, CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
SG_SAME(Note::down_convert_inputs, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS);
SG_SAME(Note::reduced_precision_reduction, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION);
SG_SAME(Note::nondeterministic, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
SG_SAME(Note::winograd, CUDNN_NUMERICAL_NOTE_WINOGRAD);
SG_SAME(DataType::f32, CUDNN_DATA_FLOAT);
SG_SAME(DataType::bf16, CUDNN_DATA_BFLOAT16);
SG_SAME(ConvolutionMode::cross_correlation, CUDNN_CROSS_CORRELATION);
SG_SAME(HeuristicsMode::fallback, CUDNN_HEUR_MODE_FALLBACK);
SG_SAME(HeuristicsMode::a, CUDNN_HEUR_MODE_A);
SG_SAME(kSublibraryVersionMismatch, CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH);
SG_SAME(kSublibraryLoadingFailed, CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED);
SG_SAME(kNotSupported, CUDNN_STATUS_NOT_SUPPORTED);
SG_SAME(kSublibraryUnavailable, CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE);
#undef SG_SAME
}  // namespace
#endif

namespace {

// In the names that cuDNN gives to what cudaDeviceGetAttribute() tells. Typed from NVIDIA's tables.
const char* const kH200 = R"({"deviceVer": 900, "driverVer": 13000, "cudaDeviceId": 0,
  "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64],
  "regsPerBlock": 65536, "multiProcessorCount": 132, "warpSize": 32,
  "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448,
  "reservedSharedMemoryPerBlock": 1024, "maxRegistersPerSM": 65536, "maxCtasPerSM": 32,
  "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "pciDeviceId": 0, "isTccDriver": 0,
  "supportCoopLaunch": 1, "smClockRateKHz": 1980000, "memClockRateKHz": 3201000,
  "l2CacheSize": 62914560, "totalGlobalMem": 150754820096, "deviceName": "NVIDIA H200"})";

}  // namespace

TEST_CASE("cuDNN: deterministic engines in bounded workspace for the heads' convolutions") {
  struct Map {
    int64_t height, width, channels, filters;
  };
  for (const Dtype dtype : {Dtype::bf16, Dtype::f32})
    for (const Map& m : {Map{128, 128, 2048, 512},
                         {128, 128, 512, 512},
                         {32, 32, 512, 512},
                         {16, 16, 2560, 512},
                         {128, 171, 256, 128},
                         {32, 32, 256, 256}})
      for (const auto pass : {cuda::ConvolutionPass::forward, cuda::ConvolutionPass::input_gradient,
                              cuda::ConvolutionPass::weight_gradient}) {
        const cuda::Convolution c{dtype,    16,      m.height,  m.width, m.channels,
                                  m.height, m.width, m.filters, 3,       3,
                                  1,        1,       1,         1,       1};
        std::string choice;
        try {
          choice = cuda::cudnn_choice(pass, c, kH200);
        } catch (const Error& e) {
          if (e.code() != ExitCode::usage) throw;
          return test::skip(e.what());
        }
        INFO(name_of(dtype), " ", m.height, " x ", m.width, ", ", m.channels, " -> ", m.filters,
             ", pass ", int(pass), ": ", choice);
        CHECK(choice.starts_with("engine "));
        CHECK(choice == cuda::cudnn_choice(pass, c, kH200));
      }
}
