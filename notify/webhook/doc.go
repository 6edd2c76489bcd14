// Package webhook delivers messages as CloudEvents 1.0 in structured JSON, signed with
// HMAC-SHA256 where there is a secret.
package webhook
