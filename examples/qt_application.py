"""A Qt program without windows: jobs run in threads, and their results come back to the event loop by a signal."""

import sys
import threading

from PySide6.QtCore import QCoreApplication, QObject, Signal, Slot

from apscheduler.schedulers.qt import QtScheduler


class Thermometer(QObject):
    """Reads a temperature in a thread, and shows it on the event loop, where it could touch windows."""

    was_read = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[float] = []
        self.was_read.connect(self.show)

    def read(self) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.was_read.emit(20.5 + len(self.shown))

    @Slot(float)
    def show(self, degrees: float) -> None:
        assert threading.current_thread() is threading.main_thread()
        print(f"It is {degrees} degrees")
        self.shown.append(degrees)
        if len(self.shown) == 3:
            QCoreApplication.quit()


application = QCoreApplication(sys.argv)
thermometer = Thermometer()
scheduler = QtScheduler()
scheduler.start()
scheduler.add_job(thermometer.read, "interval", seconds=0.2)
exit_code = application.exec()
scheduler.shutdown()
print("Stopped")
sys.exit(exit_code)
