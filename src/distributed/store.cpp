#include "distributed/store.h"

#include <c10/util/Exception.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <vector>

#include "base/error.h"

namespace ssa {

namespace {

class TcpStore : public Store {
  template <class Operation>
  auto guarded(Operation&& operation) {
    try {
      return operation();
    } catch (const std::exception& error) {
      fail("the job's store at ", address_, " is gone: ", reason_of(error));
    }
  }

 public:
  TcpStore(c10::intrusive_ptr<c10d::Store> store, std::string address)
      : store_(std::move(store)), address_(std::move(address)) {}

  void set(const std::string& key, const std::string& value) override {
    guarded([&] { store_->set(key, std::vector<uint8_t>(value.begin(), value.end())); });
  }

  std::optional<std::string> get(const std::string& key) override {
    return guarded([&]() -> std::optional<std::string> {
      if (!store_->check({key})) {
        return std::nullopt;
      }
      const std::vector<uint8_t> value = store_->get(key);
      return std::string(value.begin(), value.end());
    });
  }

  std::optional<std::string> wait_for(const std::string& key,
                                      std::chrono::milliseconds timeout) override {
    try {
      store_->wait({key}, timeout);
    } catch (const c10::Error&) {
      // Either the time is up, or the store is gone, which get() reports.
    }
    return get(key);
  }

  void remove(const std::string& key) override {
    guarded([&] { store_->deleteKey(key); });
  }

  const c10::intrusive_ptr<c10d::Store>& c10d_store() const override { return store_; }

 private:
  c10::intrusive_ptr<c10d::Store> store_;
  std::string address_;
};

}  // namespace

std::shared_ptr<Store> Store::connect(const LaunchEnvironment& environment,
                                      bool host,
                                      std::chrono::milliseconds timeout) {
  const std::string address = concat(environment.master_address, ":", environment.master_port);
  c10d::TCPStoreOptions options;
  options.port = environment.master_port;
  options.isServer = host && environment.rank == 0 && !environment.launcher_hosts_store;
  options.waitWorkers = false;  // arrivals are checked by name instead: check_identities()
  options.timeout = timeout;
  try {
    auto tcp = c10::make_intrusive<c10d::TCPStore>(environment.master_address, options);
    // torchrun keeps its store over restarts: keys of the last attempt must not be seen again.
    const std::string prefix = concat("ssa/attempt_", environment.restart);
    return std::make_shared<TcpStore>(c10::make_intrusive<c10d::PrefixStore>(prefix, tcp), address);
  } catch (const std::exception& error) {
    fail(options.isServer ? "rank 0 cannot host the job's store at "
                          : "no connection to the job's store at ",
         address,
         ": ",
         reason_of(error));
  }
}

std::string reason_of(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string text = torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

}  // namespace ssa
