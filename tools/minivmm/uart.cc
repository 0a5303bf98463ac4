// SPDX-License-Identifier: Apache-2.0
// Register layout: <linux/serial_reg.h>, which follows National's PC16550D.
#include "uart.h"

#include <linux/serial_reg.h>

namespace minivmm {

namespace {

constexpr uint8_t kInterruptEnableBits = 0x0f;
constexpr uint8_t kFifoEnabled = 0xc0;  // of the interrupt identification register

}  // namespace

uint8_t Uart::InterruptId() const {
  if ((interrupt_enable_ & UART_IER_RDI) && !received_.empty()) return UART_IIR_RDI;
  if ((interrupt_enable_ & UART_IER_THRI) && transmit_pending_) return UART_IIR_THRI;
  return UART_IIR_NO_INT;
}

void Uart::UpdateInterrupt() {
  bool level = InterruptId() != UART_IIR_NO_INT;
  if (level == level_) return;
  level_ = level;
  interrupt_(level);
}

uint8_t Uart::Read(uint16_t reg) {
  std::lock_guard guard(lock_);
  bool divisor = line_control_ & UART_LCR_DLAB;
  uint8_t value = 0;

  switch (reg) {
    case UART_RX:
      if (divisor) return divisor_[0];
      if (received_.empty()) return 0;
      value = received_.front();
      received_.pop_front();
      UpdateInterrupt();
      return value;
    case UART_IER:
      return divisor ? divisor_[1] : interrupt_enable_;
    case UART_IIR:
      value = InterruptId();
      // Reading the cause is what acknowledges this one.
      if (value == UART_IIR_THRI) transmit_pending_ = false;
      UpdateInterrupt();
      return value | (fifo_ ? kFifoEnabled : 0);
    case UART_LCR:
      return line_control_;
    case UART_MCR:
      return modem_control_;
    case UART_LSR:
      return UART_LSR_TEMT | UART_LSR_THRE | (received_.empty() ? 0 : UART_LSR_DR);
    case UART_MSR:
      return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
    case UART_SCR:
      return scratch_;
    default:
      return 0xff;
  }
}

void Uart::Write(uint16_t reg, uint8_t value) {
  std::lock_guard guard(lock_);
  bool divisor = line_control_ & UART_LCR_DLAB;

  switch (reg) {
    case UART_TX:
      if (divisor) {
        divisor_[0] = value;
      } else {
        output_(static_cast<char>(value));
        transmit_pending_ = true;
      }
      break;
    case UART_IER:
      if (divisor) {
        divisor_[1] = value;
      } else {
        // Enabling the interrupt of a ready transmitter raises it.
        if (value & ~interrupt_enable_ & UART_IER_THRI) transmit_pending_ = true;
        interrupt_enable_ = value & kInterruptEnableBits;
      }
      break;
    case UART_FCR:
      fifo_ = value & UART_FCR_ENABLE_FIFO;
      if (value & UART_FCR_CLEAR_RCVR) received_.clear();
      break;
    case UART_LCR:
      line_control_ = value;
      break;
    case UART_MCR:
      modem_control_ = value;
      break;
    case UART_SCR:
      scratch_ = value;
      break;
    default:
      break;
  }
  UpdateInterrupt();
}

void Uart::Receive(std::string_view bytes) {
  std::lock_guard guard(lock_);
  received_.insert(received_.end(), bytes.begin(), bytes.end());
  UpdateInterrupt();
}

}  // namespace minivmm
