#include "core/cuda/gemm.h"

#include <cublasLt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <set>

#include "core/cuda/gemm_layout.h"
#include "core/cuda/libraries.h"
#include "core/library.h"

namespace sg::cuda {
namespace {

constexpr uint64_t kWorkspace = uint64_t{32} << 20;  // at most; what NVIDIA advises for Hopper
constexpr int kAskFor = 8;                           // algorithms; the first usable one is taken

// What is used of cuBLASLt.
struct Api {
  static std::string file() { return fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR); }
  Library library{
      {.file = file(),
       .purpose = "matrix products on cuda",
       .folders = library_folders(file()),
       .advice = fmt::format(
           "install it (apt: libcublas-{0}-{1}; pip: {2}) and see that its folder is in "
           "LD_LIBRARY_PATH, or use --device cpu",
           CUBLAS_VER_MAJOR, CUBLAS_VER_MINOR,
           CUBLAS_VER_MAJOR >= 13 ? "nvidia-cublas" : "nvidia-cublas-cu12")}};
#define SG_LT(member, name) decltype(name)* const member = library.function<decltype(name)>(#name)
  SG_LT(create, cublasLtCreate);
  SG_LT(status_string, cublasLtGetStatusString);
  SG_LT(matmul, cublasLtMatmul);
  SG_LT(heuristic, cublasLtMatmulAlgoGetHeuristic);
  SG_LT(create_operation, cublasLtMatmulDescCreate);
  SG_LT(set_operation, cublasLtMatmulDescSetAttribute);
  SG_LT(create_layout, cublasLtMatrixLayoutCreate);
  SG_LT(create_preference, cublasLtMatmulPreferenceCreate);
  SG_LT(set_preference, cublasLtMatmulPreferenceSetAttribute);
  SG_LT(destroy_preference, cublasLtMatmulPreferenceDestroy);
#undef SG_LT
};

const Api& api() {
  static const Api& a = *new Api;
  return a;
}

std::string describe(const Gemm& p) {
  const auto operand = [](const GemmOperand& o, int64_t rows, int64_t columns) {
    return fmt::format("({}, {}){} rows {} apart", rows, columns,
                       o.transposed ? " transposed," : "", o.stride);
  };
  return fmt::format("{} ({}, {}) = {} {} times {}{}{}{}", name_of(p.out), p.m, p.n, name_of(p.in),
                     operand(p.a, p.m, p.k), operand(p.b, p.k, p.n),
                     p.accumulate ? ", added up" : "", p.bias ? ", with bias" : "",
                     p.bias_grad ? ", with the gradient of the bias" : "");
}

void check_status(cublasStatus_t status, const char* call, const Gemm& p) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  fail(ExitCode::failure, "CUDA: {} failed: {}; product {}", call, api().status_string(status),
       describe(p));
}

// A product made ready: all but the addresses.
struct Plan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulHeuristicResult_t best{};
  bool possible = false;
};

cudaDataType_t type_of(Dtype dtype) {
  check(dtype == Dtype::f32 || dtype == Dtype::bf16, "gemm: dtype {} is not supported on cuda",
        name_of(dtype));
  return dtype == Dtype::f32 ? CUDA_R_32F : CUDA_R_16BF;
}

// The largest power of two, up to what the allocator grants, that divides the address.
uint32_t alignment(const void* p) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  return uint32_t(std::min<uintptr_t>(256, address & (~address + 1)));
}

cublasLtEpilogue_t epilogue_of(const Gemm& p) {
  // The library's b is the a of the product.
  return p.bias_grad ? CUBLASLT_EPILOGUE_BGRADB
         : p.bias    ? CUBLASLT_EPILOGUE_BIAS
                     : CUBLASLT_EPILOGUE_DEFAULT;
}
const void* bias_pointer(const Gemm& p) { return p.bias_grad ? p.bias_grad : p.bias; }

template <class T>
void set(const Plan& plan, cublasLtMatmulDescAttributes_t what, const T& value, const Gemm& p) {
  check_status(api().set_operation(plan.operation, what, &value, sizeof value),
               "cublasLtMatmulDescSetAttribute", p);
}

void choose_algorithm(cublasLtHandle_t handle, const Gemm& p, Plan& plan) {
  cublasLtMatmulPreference_t preference = nullptr;
  check_status(api().create_preference(&preference), "cublasLtMatmulPreferenceCreate", p);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
    check_status(api().set_preference(preference, what, &value, sizeof value),
                 "cublasLtMatmulPreferenceSetAttribute", p);
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         uint32_t(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(p.b.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(p.a.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(p.c));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(p.c));
  std::array<cublasLtMatmulHeuristicResult_t, kAskFor> found{};
  int count = 0;
  const cublasStatus_t status = api().heuristic(handle, plan.operation, plan.a, plan.b, plan.c,
                                                plan.c, preference, kAskFor, found.data(), &count);
  api().destroy_preference(preference);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED)
    check_status(status, "cublasLtMatmulAlgoGetHeuristic", p);
  const auto usable = std::find_if(found.begin(), found.begin() + count,
                                   [](const auto& f) { return f.state == CUBLAS_STATUS_SUCCESS; });
  plan.possible = usable != found.begin() + count;
  if (plan.possible) plan.best = *usable;
}

Plan make_plan(cublasLtHandle_t handle, const Gemm& p) {
  check(p.in == Dtype::bf16 || p.out == Dtype::f32, "gemm: a product of f32 is f32, not {}",
        name_of(p.out));
  check(!p.bias_grad || (p.out == Dtype::f32 && !p.bias),
        "gemm: the gradient of a bias goes with a product in f32 that has none");
  Plan plan;
  check_status(api().create_operation(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
               "cublasLtMatmulDescCreate", p);
  const ColumnMajorProduct product = column_major(p);
  const auto layout = [&](cublasLtMatrixLayout_t& to, Dtype dtype, const ColumnMajor& m) {
    check_status(
        api().create_layout(&to, type_of(dtype), uint64_t(m.rows), uint64_t(m.columns), m.stride),
        "cublasLtMatrixLayoutCreate", p);
  };
  layout(plan.a, p.in, product.a);
  layout(plan.b, p.in, product.b);
  layout(plan.c, p.out, product.c);
  set(plan, CUBLASLT_MATMUL_DESC_TRANSA, product.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N, p);
  set(plan, CUBLASLT_MATMUL_DESC_TRANSB, product.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N, p);
  set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(p), p);
  // Its alignment counts.
  if (bias_pointer(p)) set(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias_pointer(p), p);
  choose_algorithm(handle, p, plan);
  return plan;
}

// Handles of devices, and plans: made once, kept to the end of the program.
struct Plans {
  using Key = std::array<int64_t, 16>;
  std::mutex mutex;
  std::map<int, cublasLtHandle_t> handles;
  std::map<Key, Plan> all;
  std::set<std::pair<Dtype, cublasLtEpilogue_t>> refused;  // kinds of products that were logged

  cublasLtHandle_t handle(const Stream& stream, const Gemm& p) {
    cublasLtHandle_t& h = handles[stream.device.index];
    if (!h) check_status(api().create(&h), "cublasLtCreate", p);
    return h;
  }
  void note_refused(const Gemm& p) {
    if (refused.insert({p.in, epilogue_of(p)}).second)
      spdlog::info(
          "cuBLASLt has no algorithm for the product {}; there and in others like it, "
          "what goes with it takes a pass of its own",
          describe(p));
  }
  const Plan& find(const Stream& stream, const Gemm& p) {
    const Key key{stream.device.index,
                  p.m,
                  p.n,
                  p.k,
                  int(p.in),
                  int(p.out),
                  p.a.stride,
                  p.a.transposed,
                  p.b.stride,
                  p.b.transposed,
                  p.c_stride,
                  epilogue_of(p),
                  alignment(p.a.data),
                  alignment(p.b.data),
                  alignment(p.c),
                  alignment(bias_pointer(p))};
    auto it = all.find(key);
    if (it == all.end()) it = all.emplace(key, make_plan(handle(stream, p), p)).first;
    return it->second;
  }
};

Plans& plans() {
  static Plans& p = *new Plans;
  return p;
}

}  // namespace

void gemm(Stream& stream, const Gemm& p) {
  Plans& all = plans();
  const std::lock_guard lock(all.mutex);
  const Plan& plan = all.find(stream, p);
  check(plan.possible, "CUDA: cuBLASLt ({}) has no algorithm for the product {}",
        api().library.path(), describe(p));
  if (bias_pointer(p)) set(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias_pointer(p), p);
  // Of the tensors' memory, so that recorded work has its own.
  const Tensor workspace = empty({int64_t(plan.best.workspaceSize)}, Dtype::u8, stream.device);
  const float one = 1, beta = p.accumulate ? 1 : 0;
  check_status(
      api().matmul(all.handle(stream, p), plan.operation, &one, p.b.data, plan.a, p.a.data, plan.b,
                   &beta, p.c, plan.c, p.c, plan.c, &plan.best.algo, workspace.raw(),
                   plan.best.workspaceSize, static_cast<cudaStream_t>(stream.handle)),
      "cublasLtMatmul", p);
}

bool fuses(Stream& stream, const Gemm& p) {
  Plans& all = plans();
  const std::lock_guard lock(all.mutex);
  const Plan& fused = all.find(stream, p);
  if (!fused.possible) all.note_refused(p);
  if (!fused.possible || !p.bias_grad) return fused.possible;
  Gemm plain = p;
  plain.bias_grad = nullptr;
  // An algorithm that cannot split the long sum would leave most of the card idle.
  return fused.best.wavesCount >= std::min(1.0f, all.find(stream, plain).best.wavesCount);
}

}  // namespace sg::cuda
