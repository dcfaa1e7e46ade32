// A device that is none: memory of the CPU, computed on by the CPU. But its tensors are on another device than the
// CPU's, and an operation is refused whose tensors or generator are not all on one, as a GPU would refuse it.
//
// Everything goes through PyTorch's fallback to the CPU (ATen/native/CPUFallback.h) but what makes or shares memory,
// and what the fallback would do wrong.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/resize_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

namespace {

constexpr auto KIND = c10::DeviceType::PrivateUse1;
const c10::Device HERE(KIND, 0);

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t n) override {
    void* data = n ? std::malloc(n) : nullptr;
    return {data, data, &std::free, HERE};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, std::size_t n) const override { std::memcpy(to, from, n); }
};
Memory memory;
REGISTER_ALLOCATOR(KIND, &memory);

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return KIND; }
  c10::Device exchangeDevice(c10::Device) const override { return HERE; }
  c10::Device getDevice() const override { return HERE; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, HERE); }
  c10::Stream getDefaultStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, HERE); }
  c10::Stream exchangeStream(c10::Stream) const override { return c10::Stream(c10::Stream::DEFAULT, HERE); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Noise final : at::CPUGeneratorImpl {
  Noise() : at::CPUGeneratorImpl(c10::detail::getNonDeterministicRandom()) {
    device_ = HERE;
    key_set_ = c10::DispatchKeySet(c10::DispatchKey::PrivateUse1);
  }
};

const at::Generator& default_noise() {
  static const at::Generator noise = at::make_generator<Noise>();
  return noise;
}

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return default_noise(); }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::make_generator<Noise>(); }
  at::Device getDeviceFromPtr(void*) const override { return HERE; }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t size) const override {
    auto data = memory.allocate(size);
    if (storage.data() && size) std::memcpy(data.get(), storage.data(), std::min(size, storage.nbytes()));
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(data));
    storage.unsafeGetStorageImpl()->set_nbytes(size);
  }
};
Hooks hooks;
[[maybe_unused]] const bool registered = (at::RegisterPrivateUse1HooksInterface(&hooks), true);

// Whether an operation takes a CPU tensor beside ours: a GPU does so for single numbers and for index tensors.
bool may_be_elsewhere(const std::string& op, size_t argument, const at::Tensor& t) {
  bool index = op == "aten::index" || op == "aten::index_put_" || op == "aten::_index_put_impl_";
  return t.dim() == 0 || (index && argument == 1);
}

void refuse_mixtures(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  const auto& schema = op.schema();
  const size_t count = schema.arguments().size(), first = stack.size() - count;
  auto look = [&](const at::Tensor& t, size_t argument) {
    TORCH_CHECK(!t.defined() || t.device() == HERE || may_be_elsewhere(schema.name(), argument, t),
        "", schema.name(), ": argument ", argument, " (", schema.arguments()[argument].name(), ") is on ",
        t.device(), " beside tensors on ", HERE);
  };
  for (size_t i = 0; i < count; ++i) {
    const auto& value = stack[first + i];
    if (value.isTensor()) {
      look(value.toTensor(), i);
    } else if (value.isTensorList()) {
      for (const at::Tensor& t : value.toTensorVector()) look(t, i);
    } else if (value.isOptionalTensorList()) {
      for (const auto& t : value.toOptionalTensorVector()) if (t) look(*t, i);
    } else if (value.isGenerator()) {
      TORCH_CHECK(value.toGenerator().device() == HERE,
          "", schema.name(), ": a generator on ", value.toGenerator().device(), " beside tensors on ", HERE);
    }
  }
}

void on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  refuse_mixtures(op, *stack);
  const auto& schema = op.schema();
  const size_t count = schema.arguments().size(), first = stack->size() - count;
  // The numbers come from the generator's own state, drawn by a generator of the CPU.
  at::Generator theirs, ours;
  for (size_t i = 0; i < count; ++i) {
    auto& value = (*stack)[first + i];
    const bool none = value.isNone() && schema.arguments()[i].name() == "generator";
    if (value.isGenerator() || none) {
      theirs = none ? default_noise() : value.toGenerator();
      ours = at::make_generator<at::CPUGeneratorImpl>(0);
      ours.set_state(theirs.get_state());
      value = ours;
    }
  }
  at::native::cpu_fallback(op, stack, /*error_on_views=*/true);
  if (theirs.defined()) theirs.set_state(ours.get_state());
}

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &memory,
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

// The same memory, as a tensor of the CPU.
at::Tensor seen(const at::Tensor& t) {
  if (t.device().is_cpu()) return t;
  return at::from_blob(t.mutable_data_ptr(), t.sizes(), t.strides(), t.options().device(at::kCPU));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  at::NoGradGuard off;
  seen(to).copy_(seen(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) at::native::resize_(to, from.sizes());
  return copy_from(from, to, false);
}

const at::Tensor& resized(const at::Tensor& t, c10::SymIntArrayRef size, std::optional<at::MemoryFormat> format) {
  return at::native::resize_(t, C10_AS_INTARRAYREF_SLOW(size), format);
}

at::Tensor convolution(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& b,
                       c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
                       bool transposed, c10::SymIntArrayRef out, c10::SymInt groups) {
  TORCH_CHECK(x.device() == w.device(), "convolution: ", x.device(), " and ", w.device());
  auto bias = b && b->defined() ? std::optional<at::Tensor>(b->cpu()) : std::nullopt;
  return at::convolution_symint(x.cpu(), w.cpu(), bias, stride, padding, dilation, transposed, out, groups).to(HERE);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& g, const at::Tensor& x, const at::Tensor& w, c10::SymIntArrayRef stride,
    c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed, c10::SymIntArrayRef out,
    c10::SymInt groups, std::array<bool, 3> mask) {
  const c10::SymInt biases[] = {w.sym_size(transposed ? 1 : 0)};
  auto [a, b, c] = at::convolution_backward_symint(g.cpu(), x.cpu(), w.cpu(), c10::SymIntArrayRef(biases, 1), stride,
                                                   padding, dilation, transposed, out, groups, mask);
  auto back = [](const at::Tensor& t) { return t.defined() ? t.to(HERE) : t; };
  return {back(a), back(b), back(c)};
}

at::Tensor& set_storage(at::Tensor& t, c10::Storage source) {
  const int64_t size = static_cast<int64_t>(source.nbytes() / t.dtype().itemsize());
  return at::native::set_storage_cpu_(t, std::move(source), 0, {size}, {});
}

at::Tensor& set_tensor(at::Tensor& t, const at::Tensor& source) {
  return at::native::set_storage_cpu_(t, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

// The running statistics change in place, and its schema does not say so: the fallback would lose that.
std::tuple<at::Tensor, at::Tensor, at::Tensor> batch_norm(
    const at::Tensor& x, const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& mean, const std::optional<at::Tensor>& var, bool training, double momentum,
    double eps) {
  auto optional = [&](const std::optional<at::Tensor>& t) {
    if (!t || !t->defined()) return std::optional<at::Tensor>();
    TORCH_CHECK(t->device() == x.device(), "batch_norm: ", x.device(), " and ", t->device());
    return std::optional<at::Tensor>(seen(*t));
  };
  auto [a, b, c] = at::native_batch_norm(seen(x), optional(weight), optional(bias), optional(mean), optional(var),
                                         training, momentum, eps);
  return {a.to(HERE), b.to(HERE), c.to(HERE)};
}

int64_t plain_attention(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                        double, bool, std::optional<double>, bool) {
  return static_cast<int64_t>(at::SDPBackend::math);
}

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", TORCH_FN(empty));
  m.impl("empty_strided", TORCH_FN(empty_strided));
  m.impl("_copy_from", TORCH_FN(copy_from));
  m.impl("_copy_from_and_resize", TORCH_FN(copy_from_and_resize));
  m.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  m.impl("view", TORCH_FN(at::native::view));
  m.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  m.impl("unfold", TORCH_FN(at::native::unfold));
  m.impl("resize_", TORCH_FN(resized));
  m.impl("set_.source_Storage_storage_offset", TORCH_FN(at::native::set_storage_cpu_));
  m.impl("set_.source_Storage", TORCH_FN(set_storage));
  m.impl("set_.source_Tensor", TORCH_FN(set_tensor));
  m.impl("convolution_overrideable", TORCH_FN(convolution));
  m.impl("convolution_backward_overrideable", TORCH_FN(convolution_backward));
  m.impl("native_batch_norm", TORCH_FN(batch_norm));
  m.impl("_fused_sdp_choice", TORCH_FN(plain_attention));
}


TORCH_LIBRARY(pretend, m) {
  m.def("seed(int seed) -> ()", [](int64_t seed) {
    at::Generator noise = default_noise();
    noise.set_current_seed(static_cast<uint64_t>(seed));
  });
  m.def("state() -> Tensor", [] { return default_noise().get_state(); });
  m.def("restore(Tensor state) -> ()", [](const at::Tensor& state) {
    at::Generator noise = default_noise();
    noise.set_state(state);
  });
}

// What runs in lower precision under autocast, and what does not, is a GPU's choice, which differs from a CPU's.
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }

#define LOWER(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define FULL(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
#define FULL_UNLESS_GIVEN(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32_set_opt_dtype)
#define WIDEST(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  AT_FORALL_LOWER_PRECISION_FP(LOWER)
  AT_FORALL_FP32(FULL)
  AT_FORALL_FP32_SET_OPT_DTYPE(FULL_UNLESS_GIVEN)
  AT_FORALL_PROMOTE(WIDEST)
}
