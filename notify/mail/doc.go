// Package mail delivers messages by SMTP, with TLS from the start or STARTTLS.
package mail
