package fsm

import (
	"slices"
	"strconv"
	"strings"
)

// AlertType is one kind of alert. Numbers and codes below 1000 are CloudStack's, one
// number for one type; those from 1000 on are lifeboat's own.
type AlertType struct {
	Name string // as it stands in keys, in the log and on the command line
	ID   uint32
	Code string // CloudStack's "ALERT.COMPUTE.HOST", or one made the same way
	Own  bool   // lifeboat raises it by itself
}

// AlertTypes lists every type, by number. CloudStack gave 32 to several types, and
// here it is VM_SNAPSHOT's alone.
func AlertTypes() []AlertType {
	return []AlertType{
		{"MEMORY", 0, "ALERT.MEMORY", false},
		{"CPU", 1, "ALERT.CPU", false},
		{"STORAGE", 2, "ALERT.STORAGE", false},
		{"STORAGE_ALLOCATED", 3, "ALERT.STORAGE.ALLOCATED", false},
		{"PUBLIC_IP", 4, "ALERT.NETWORK.PUBLICIP", false},
		{"PRIVATE_IP", 5, "ALERT.NETWORK.PRIVATEIP", false},
		{"SECONDARY_STORAGE", 6, "ALERT.STORAGE.SECONDARY", false},
		{AlertHost, 7, "ALERT.COMPUTE.HOST", true},
		{AlertVM, 8, "ALERT.USERVM", true},
		{"DOMAIN_ROUTER", 9, "ALERT.SERVICE.DOMAINROUTER", false},
		{"CONSOLE_PROXY", 10, "ALERT.SERVICE.CONSOLEPROXY", false},
		{"ROUTING", 11, "ALERT.NETWORK.ROUTING", false},
		{"STORAGE_MISC", 12, "ALERT.STORAGE.MISC", false},
		{AlertUsage, 13, "ALERT.USAGE", true},
		{AlertNode, 14, "ALERT.MANAGEMENT", true},
		{"DOMAIN_ROUTER_MIGRATE", 15, "ALERT.NETWORK.DOMAINROUTERMIGRATE", false},
		{"CONSOLE_PROXY_MIGRATE", 16, "ALERT.SERVICE.CONSOLEPROXYMIGRATE", false},
		{"USERVM_MIGRATE", 17, "ALERT.USERVM.MIGRATE", false},
		{"VLAN", 18, "ALERT.NETWORK.VLAN", false},
		{"SSVM", 19, "ALERT.SERVICE.SSVM", false},
		{"USAGE_RESULT", 20, "ALERT.USAGE.RESULT", false},
		{"STORAGE_DELETE", 21, "ALERT.STORAGE.DELETE", false},
		{"RESOURCE_COUNT", 22, "ALERT.RESOURCE.COUNT", false},
		{"USAGE_SANITY", 23, "ALERT.USAGE.SANITY", false},
		{"DIRECT_PUBLIC_IP", 24, "ALERT.NETWORK.DIRECTPUBLICIP", false},
		{"LOCAL_STORAGE", 25, "ALERT.STORAGE.LOCAL", false},
		{"RESOURCE_LIMIT", 26, "ALERT.RESOURCE.EXCEED", false},
		{"SYNC", 27, "ALERT.TYPE.SYNC", false},
		{"UPLOAD_FAILED", 28, "ALERT.UPLOAD.FAILED", false},
		{"OOBM_AUTH", 29, "ALERT.OOBM.AUTHERROR", false},
		{AlertFence, 30, "ALERT.HA.ACTION", true},
		{"CA_CERT", 31, "ALERT.CA.CERT", false},
		{"VM_SNAPSHOT", 32, "ALERT.VM.SNAPSHOT", false},
		{AlertBrake, 1000, "ALERT.HA.BRAKE", true},
		{AlertReceiver, 1001, "ALERT.NOTIFY", true},
		{AlertAlerts, 1002, "ALERT.ALERTS", true},
		{"OTHER", 1003, "ALERT.OTHER", false},
	}
}

// AlertTypeOf finds a type by its name, its code or its number.
func AlertTypeOf(word string) (AlertType, bool) {
	types := AlertTypes()
	i := slices.IndexFunc(types, func(t AlertType) bool {
		return strings.EqualFold(t.Name, word) || strings.EqualFold(t.Code, word) || strconv.FormatUint(uint64(t.ID), 10) == word
	})
	if i < 0 {
		return AlertType{Name: word}, false
	}
	return types[i], true
}

// ParseSeverity reads info, warning or critical.
func ParseSeverity(word string) (Severity, bool) {
	for s := Info; s <= Critical; s++ {
		if s.String() == word {
			return s, true
		}
	}
	return 0, false
}

// ParseAlertState reads open, acknowledged, resolved or archived.
func ParseAlertState(word string) (AlertState, bool) {
	for s := AlertOpen; s <= AlertArchived; s++ {
		if s.String() == word {
			return s, true
		}
	}
	return 0, false
}
