// SPDX-License-Identifier: MIT OR Apache-2.0
// The parts of a 16550A serial port that Linux's 8250 driver uses: receive and transmit interrupts,
// and FIFOs of any length. A byte that the guest sends is out at once, so the transmitter is always
// ready. There are no speed, no modem lines and no line errors.
// Register layout: <linux/serial_reg.h>, which follows National's PC16550D.
#ifndef GMEM_TOOLS_MINIVMM_UART_H_
#define GMEM_TOOLS_MINIVMM_UART_H_

#include <linux/serial_reg.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace minivmm {

// Thread-safe: the vCPU's thread reads and writes registers while another thread calls Receive().
class Uart {
 public:
  static constexpr uint16_t kNrRegisters = 8;

  // The port calls @output with each byte that the guest sends, and @interrupt with the level of
  // the interrupt line when that changes. It holds its lock then, so neither may call the port.
  Uart(std::function<void(char)> output, std::function<void(bool)> interrupt)
      : output_(std::move(output)), interrupt_(std::move(interrupt)) {}

  // The guest reads register @reg (0..7, the offset from the port's base).
  uint8_t Read(uint16_t reg) {
    absl::MutexLock guard(&lock_);
    uint8_t value = 0;
    switch (reg) {
      case UART_RX:
        if (received_.empty()) break;
        value = received_.front();
        received_.pop_front();
        break;
      case UART_IER:
        return interrupt_enable_;
      case UART_IIR:
        value = InterruptId() | 0xc0;  // FIFOs are on
        // The guest acknowledges this interrupt by reading its cause.
        if (InterruptId() == UART_IIR_THRI) transmit_pending_ = false;
        break;
      case UART_LCR:
        return line_control_;
      case UART_LSR:
        return UART_LSR_TEMT | UART_LSR_THRE | (received_.empty() ? 0 : UART_LSR_DR);
      case UART_MSR:
        return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
      default:
        break;
    }
    UpdateInterrupt();
    return value;
  }

  // The guest writes register @reg.
  void Write(uint16_t reg, uint8_t value) {
    absl::MutexLock guard(&lock_);
    // With this bit, the first two registers are the divisor of the baud rate.
    const bool divisor = line_control_ & UART_LCR_DLAB;
    if (reg == UART_LCR) {
      line_control_ = value;
    } else if (reg == UART_TX && !divisor) {
      output_(static_cast<char>(value));
      transmit_pending_ = true;
    } else if (reg == UART_IER && !divisor) {
      // If the transmitter is ready, enabling its interrupt raises the interrupt.
      if (value & ~interrupt_enable_ & UART_IER_THRI) transmit_pending_ = true;
      // With more bits, Linux would mistake the port for another kind.
      interrupt_enable_ = value & 0x0f;
    }
    UpdateInterrupt();
  }

  // Queues bytes for the guest to receive.
  void Receive(absl::string_view bytes) {
    absl::MutexLock guard(&lock_);
    received_.insert(received_.end(), bytes.begin(), bytes.end());
    UpdateInterrupt();
  }

 private:
  uint8_t InterruptId() const ABSL_SHARED_LOCKS_REQUIRED(lock_) {
    if ((interrupt_enable_ & UART_IER_RDI) && !received_.empty()) return UART_IIR_RDI;
    if ((interrupt_enable_ & UART_IER_THRI) && transmit_pending_) return UART_IIR_THRI;
    return UART_IIR_NO_INT;
  }

  void UpdateInterrupt() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    const bool level = InterruptId() != UART_IIR_NO_INT;
    if (level != level_) interrupt_(level);
    level_ = level;
  }

  const std::function<void(char)> output_;
  const std::function<void(bool)> interrupt_;

  absl::Mutex lock_;
  std::deque<uint8_t> received_ ABSL_GUARDED_BY(lock_);
  uint8_t interrupt_enable_ ABSL_GUARDED_BY(lock_) = 0, line_control_ ABSL_GUARDED_BY(lock_) = 0;
  // The transmitter became ready, and the driver doesn't know that yet.
  bool transmit_pending_ ABSL_GUARDED_BY(lock_) = false;
  bool level_ ABSL_GUARDED_BY(lock_) = false;
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_UART_H_
