// SPDX-License-Identifier: MIT OR Apache-2.0
#include "uart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/serial_reg.h>

#include <string>
#include <vector>

namespace minivmm {
namespace {

using testing::ElementsAre;

class UartTest : public testing::Test {
 protected:
  uint8_t InterruptId() { return uart_.Read(UART_IIR) & 0xf; }

  std::string sent_;
  // The changes of the interrupt line.
  std::vector<bool> levels_;
  Uart uart_{[this](char byte) { sent_ += byte; },
             [this](bool level) { levels_.push_back(level); }};
};

TEST_F(UartTest, Sends) {
  uart_.Write(UART_TX, 'a');
  EXPECT_TRUE(uart_.Read(UART_LSR) & UART_LSR_THRE);
  uart_.Write(UART_TX, 'b');
  EXPECT_EQ(sent_, "ab");
  EXPECT_THAT(levels_, ElementsAre());
}

TEST_F(UartTest, Receives) {
  EXPECT_FALSE(uart_.Read(UART_LSR) & UART_LSR_DR);
  uart_.Receive("ab");
  EXPECT_TRUE(uart_.Read(UART_LSR) & UART_LSR_DR);
  EXPECT_EQ(uart_.Read(UART_RX), 'a');
  EXPECT_EQ(uart_.Read(UART_RX), 'b');
  EXPECT_FALSE(uart_.Read(UART_LSR) & UART_LSR_DR);
  EXPECT_EQ(uart_.Read(UART_RX), 0);
  EXPECT_THAT(levels_, ElementsAre());
}

TEST_F(UartTest, ReceiveInterruptLastsUntilAllIsRead) {
  uart_.Write(UART_IER, UART_IER_RDI);
  EXPECT_EQ(InterruptId(), UART_IIR_NO_INT);
  uart_.Receive("ab");
  EXPECT_THAT(levels_, ElementsAre(true));
  EXPECT_EQ(InterruptId(), UART_IIR_RDI);
  uart_.Read(UART_RX);
  EXPECT_THAT(levels_, ElementsAre(true));
  uart_.Read(UART_RX);
  EXPECT_THAT(levels_, ElementsAre(true, false));
  EXPECT_EQ(InterruptId(), UART_IIR_NO_INT);
}

TEST_F(UartTest, WhatCameBeforeTheInterruptWasEnabled) {
  uart_.Receive("a");
  EXPECT_THAT(levels_, ElementsAre());
  uart_.Write(UART_IER, UART_IER_RDI);
  EXPECT_THAT(levels_, ElementsAre(true));
  uart_.Write(UART_IER, 0);
  EXPECT_THAT(levels_, ElementsAre(true, false));
}

TEST_F(UartTest, TransmitInterruptIsAcknowledgedByReadingIt) {
  // Linux starts to send by enabling the interrupt.
  uart_.Write(UART_IER, UART_IER_THRI);
  EXPECT_THAT(levels_, ElementsAre(true));
  EXPECT_EQ(InterruptId(), UART_IIR_THRI);
  EXPECT_THAT(levels_, ElementsAre(true, false));
  EXPECT_EQ(InterruptId(), UART_IIR_NO_INT);
  uart_.Write(UART_TX, 'a');
  EXPECT_THAT(levels_, ElementsAre(true, false, true));
  // Enabling it again changes nothing.
  EXPECT_EQ(InterruptId(), UART_IIR_THRI);
  uart_.Write(UART_IER, UART_IER_THRI);
  EXPECT_EQ(InterruptId(), UART_IIR_NO_INT);
}

TEST_F(UartTest, ReceivingComesFirst) {
  uart_.Write(UART_IER, UART_IER_RDI | UART_IER_THRI);
  uart_.Receive("a");
  EXPECT_EQ(InterruptId(), UART_IIR_RDI);
  uart_.Read(UART_RX);
  // The line stays up for the other interrupt.
  EXPECT_THAT(levels_, ElementsAre(true));
  EXPECT_EQ(InterruptId(), UART_IIR_THRI);
  EXPECT_THAT(levels_, ElementsAre(true, false));
}

TEST_F(UartTest, DivisorHidesDataAndInterruptRegisters) {
  uart_.Write(UART_IER, UART_IER_RDI);
  uart_.Write(UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
  EXPECT_EQ(uart_.Read(UART_LCR), UART_LCR_DLAB | UART_LCR_WLEN8);
  uart_.Write(UART_DLL, 0x34);
  uart_.Write(UART_DLM, 0x12);
  uart_.Write(UART_LCR, UART_LCR_WLEN8);
  EXPECT_EQ(uart_.Read(UART_IER), UART_IER_RDI);
  EXPECT_EQ(sent_, "");
}

TEST_F(UartTest, IsA16550A) {
  EXPECT_EQ(uart_.Read(UART_IIR) & 0xc0, 0xc0);
  // The register has only some of the bits.
  uart_.Write(UART_IER, 0xff);
  EXPECT_EQ(uart_.Read(UART_IER), 0x0f);
  // Read-only registers keep their values.
  const uint8_t status = uart_.Read(UART_LSR);
  uart_.Write(UART_LSR, 0);
  EXPECT_EQ(uart_.Read(UART_LSR), status);
}

}  // namespace
}  // namespace minivmm
