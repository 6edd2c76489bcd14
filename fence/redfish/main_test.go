package redfish

import (
	"testing"

	"lifeboat/fence/fencetest"
)

func TestMain(m *testing.M) { fencetest.Main(m) }
