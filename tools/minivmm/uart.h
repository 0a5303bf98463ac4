// SPDX-License-Identifier: Apache-2.0
// A 16550A serial port, as much of it as Linux's 8250 driver uses: both FIFOs,
// receive and transmit interrupts. What the guest sends is out at once, so the
// transmitter is always ready; there are no modem lines and no line errors.
#ifndef GMEM_TOOLS_MINIVMM_UART_H_
#define GMEM_TOOLS_MINIVMM_UART_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string_view>

namespace minivmm {

// Thread-safe: the vCPU's thread reads and writes registers while another one
// calls Receive().
class Uart {
 public:
  static constexpr uint16_t kNrRegisters = 8;

  // @output gets each byte that the guest sends, @interrupt the level of the
  // interrupt line when it changes. Both are called with the port's lock held,
  // so neither may call the port.
  Uart(std::function<void(char)> output, std::function<void(bool)> interrupt)
      : output_(std::move(output)), interrupt_(std::move(interrupt)) {}

  // Guest access to register @reg (0..7, the offset from the port's base).
  uint8_t Read(uint16_t reg);
  void Write(uint16_t reg, uint8_t value);

  // Queues bytes for the guest to receive.
  void Receive(std::string_view bytes);

 private:
  uint8_t InterruptId() const;
  void UpdateInterrupt();

  const std::function<void(char)> output_;
  const std::function<void(bool)> interrupt_;

  std::mutex lock_;  // of all below
  std::deque<uint8_t> received_;
  uint8_t interrupt_enable_ = 0, line_control_ = 0, modem_control_ = 0, scratch_ = 0;
  uint8_t divisor_[2] = {1, 0};
  bool fifo_ = false;
  // The transmitter became ready, and the driver hasn't been told yet.
  bool transmit_pending_ = false;
  bool level_ = false;
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_UART_H_
