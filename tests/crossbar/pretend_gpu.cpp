// Tells torch's C++ that there is a CUDA device: a guard for it that does nothing, and an answer to "is there CUDA?".
// Builds without CUDA have neither, and autograd asks for both.

#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

constexpr auto CUDA = c10::DeviceType::CUDA;

struct Guard : c10::impl::NoOpDeviceGuardImpl<CUDA> {
  const c10::Stream stream{c10::Stream::DEFAULT, {CUDA, 0}};
  c10::Device getDevice() const override { return {CUDA, 0}; }
  c10::Device exchangeDevice(c10::Device) const override { return {CUDA, 0}; }
  c10::Stream getStream(c10::Device) const noexcept override { return stream; }
  c10::Stream getDefaultStream(c10::Device) const override { return stream; }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream; }
  void record(void** event, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override { *event = event; }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
};

struct Hooks : at::CUDAHooksInterface {
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  c10::DeviceIndex current_device() const override { return 0; }
};

}  // namespace

// Torch makes its hooks once, often before a test begins; theirs have no members, so their methods are exchanged.
extern "C" void pretend(bool begin) {
  static Guard guard;
  static Hooks hooks;
  static void** asked = (void**)&at::detail::getCUDAHooks();
  static void* before = *asked;
  if (!c10::impl::hasDeviceGuardImpl(CUDA)) c10::impl::DeviceGuardImplRegistrar(CUDA, &guard);
  *asked = begin ? *(void**)&hooks : before;
}
