// Package notify tells people and programs of alerts: what a message is, and what a
// driver that delivers one must do. The drivers are packages below it. A driver is
// told what to say; it neither decides what is sent to whom nor remembers anything:
// the outbox and its receipts are in the replicated state.
//
// Deliveries arrive at least once. A message has an id that is the same each time it
// is sent, so that a receiver can tell a repetition.
package notify
