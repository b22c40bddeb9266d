#include "distributed/stream_timer.h"

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace ssa {

namespace {

std::unique_ptr<c10::Event> record_event(torch::Device device) {
  // BACKEND_DEFAULT asks CUDA for an event with a time, PYTORCH_DEFAULT for one without.
  auto event = std::make_unique<c10::Event>(device.type(), c10::EventFlag::BACKEND_DEFAULT);
  event->record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
  return event;
}

}  // namespace

StreamTimer::StreamTimer(torch::Device device) : device_(device), start_(Clock::now()) {
  if (!device.is_cpu()) {
    start_event_ = record_event(device);
  }
}

StreamTimer::~StreamTimer() = default;
StreamTimer::StreamTimer(StreamTimer&&) noexcept = default;
StreamTimer& StreamTimer::operator=(StreamTimer&&) noexcept = default;

void StreamTimer::stop() {
  end_ = Clock::now();
  if (start_event_) {
    end_event_ = record_event(device_);
  }
}

bool StreamTimer::is_done() const {
  return !end_event_ || end_event_->query();
}

double StreamTimer::seconds() const {
  if (!end_event_) {
    return std::chrono::duration<double>(end_ - start_).count();
  }
  end_event_->synchronize();
  return 1e-3 * start_event_->elapsedTime(*end_event_);
}

}  // namespace ssa
