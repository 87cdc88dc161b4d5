"""Drives the stand-in router with pyvyos, and prints every call with what was sent and what came back."""
import json
import sys

from pyvyos import VyDevice

# The CA comes by REQUESTS_CA_BUNDLE: pyvyos takes only yes or no for `verify`.
port, key = int(sys.argv[1]), sys.argv[2]
device = VyDevice(hostname="127.0.0.1", apikey=key, port=port, protocol="https", verify=True)
ETH = ["interfaces", "ethernet", "eth5"]


def call(name, *arguments, **options):
    try:
        answer = getattr(device, name)(*arguments, **options)
        sent = json.loads(answer.request["data"])
        said = {"status": answer.status, "result": answer.result, "error": answer.error or None}
    except Exception as error:
        sent, said = None, {"exception": type(error).__name__}
    print(json.dumps({"call": name, "sent": sent, **said}))


call("configure_set", ETH + ["vif", "7", "address", "10.7.0.1/24"])
call("configure_set", [ETH + ["vif", "7", "address", "10.7.1.1/24"], ETH + ["vif", "7", "description", "seven up"]])
call("retrieve_show_config", ETH)
call("retrieve_return_values", ETH + ["vif", "7", "address"])
call("retrieve_show_config", [])
call("configure_multiple_op", [
    {"op": "set", "path": ETH + ["vif", "8", "address", "10.8.0.1/24"]},
    {"op": "delete", "path": ETH + ["vif", "7", "description"]},
])
call("configure_set", ["no", "such", "thing"])
call("configure_delete", ETH + ["vif", "7"])
call("retrieve_show_config", ETH)
call("config_file_save")
call("config_file_save", file="/config/backup.boot")
call("configure_delete", ETH + ["vif", "8"])
call("config_file_load", file="/config/backup.boot")
call("retrieve_show_config", ETH)
call("show", ["version"])
call("generate", ["no", "such"])
call("reset", ["no", "such"])
call("reboot", ["in", "5"])
call("reboot", ["cancel"])
device = VyDevice(hostname="127.0.0.1", apikey="wrong", port=port, protocol="https", verify=True)
call("retrieve_show_config", ETH)
